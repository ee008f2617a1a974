import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { completionScript, SHELLS } from '../../src/cli/completion.js';
import { manPage } from '../../src/cli/man.js';
import type { OptionReference, VerbReference } from '../../src/cli/reference.js';

function option(long: string, description: string, choices: readonly string[] = []): OptionReference {
  const takesValue = choices.length > 0 || long === '--config';
  return { ...{ flags: long, short: undefined, long, description }, takesValue, choices };
}

const VERBS: readonly VerbReference[] = [
  {
    ...{ name: '', description: "It's Drover.", usage: '', arguments: [] },
    options: [option('--config', 'the configuration')],
  },
  {
    ...{ name: 'show', description: 'show a [build]: all of it', usage: '[options] <build>' },
    arguments: [{ name: 'build', description: ".its id: b1's" }],
    options: [option('--json', 'print JSON'), option('--door', 'which one', ['socket', 'ssh'])],
  },
  { ...{ name: 'serve', description: 'run', usage: '', arguments: [], options: [] } },
];

/** Words that bash offers after this command line. */
async function offered(line: string): Promise<string[]> {
  const words = line.split(' ');
  const script = `${completionScript('bash', VERBS)}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}) COMP_CWORD=${words.length - 1}
_drover
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await execa('bash', ['-c', script]);
  return stdout.split('\n');
}

test.each([
  ['drover s', ['show', 'serve']],
  ['drover show --', ['--json', '--door', '--config']],
  ['drover show --door ', ['socket', 'ssh']],
  ['drover serve --', ['--config']],
])('bash completes "%s"', async (line, words) => {
  expect(await offered(line)).toEqual(words);
});

test.each(SHELLS)('the script for %s has every verb and option', (shell) => {
  const script = completionScript(shell, VERBS);
  for (const word of ['show', 'serve', 'json', 'door', 'socket']) expect(script).toContain(word);
});

test('the man page escapes what man(7) would take for a command', () => {
  const page = manPage(VERBS, '1.2.3');
  expect(page).toContain('.SS drover show [options] <build>');
  expect(page).toContain("\\&.its id: b1's.");
  expect(page).toContain('.B \\-\\-json');
});
