import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { WireWriter } from '../../src/protocol/wire-writer.js';
import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';

const HOOK = join(REPOSITORY, 'dist/drover-hook');
const LOST = errorLine('error: unexpected end-of-file');
const UNREACHABLE = errorLine("cannot build on 'ssh-ng://one': error: no route");
const NO_MACHINE = '@nix {"action":"msg","level":1,"msg":"Failed to find a machine for remote build!"}';

function errorLine(text: string): string {
  return `@nix {"action":"msg","level":0,"msg":"${text}"}`;
}

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp('/tmp/hook-');
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

function settings(): Buffer {
  return new WireWriter().u64(1).string('builders').string('@/etc/nix/machines').u64(0).finish();
}

function question(): Buffer {
  return new WireWriter()
    .string('try')
    .u64(0)
    .string('x86_64-linux')
    .string('/nix/store/a.drv')
    .strings(['big-parallel'])
    .finish();
}

function work(): Buffer {
  return new WireWriter().strings(['/nix/store/input']).strings(['out']).finish();
}

/** Runs it over a hook that says these lines, one element for each time that it is started. */
async function run(
  input: readonly Buffer[],
  turns: readonly { readonly lines: readonly string[]; readonly status?: number }[],
): Promise<{ exitCode: number | undefined; lines: string[]; inputs: Buffer[] }> {
  const program = join(dir, 'hook');
  await writeFile(join(dir, 'count'), '0');
  for (const [turn, { lines, status = 0 }] of turns.entries())
    await writeFile(join(dir, `turn${turn}`), `${lines.join('\n')}\nEXIT ${status}\n`);
  // Reads what there is only when it ends, as no answer depends on it.
  await writeFile(
    program,
    `#!/bin/sh
cd ${dir}; n=$(cat count); echo $((n + 1)) > count
while read -r line; do case $line in EXIT*) status=\${line#EXIT } ;; *) printf '%s\\n' "$line" >&2 ;; esac; done < turn$n
cat > input$n
exit $status
`,
  );
  await chmod(program, 0o755);
  const { exitCode, stderr } = await execa(HOOK, [program, '3'], {
    input: Buffer.concat(input),
    reject: false,
  });
  const count = Number(await readFile(join(dir, 'count'), 'utf8'));
  const inputs = Array.from({ length: count }, (_, turn) => readFile(join(dir, `input${turn}`)));
  return { exitCode, lines: stderr.split('\n'), inputs: await Promise.all(inputs) };
}

const ASKED = Buffer.concat([settings(), question(), work()]);

describeWith('drover-hook', ['dist'], () => {
  test('passes everything on, both ways, and the exit status', async () => {
    const lines = ['@nix {"action":"start"}', '# accept', 'ssh-ng://one', errorLine('build of x failed')];
    const { exitCode, ...rest } = await run([ASKED], [{ lines, status: 7 }]);
    expect(exitCode).toBe(7);
    expect(rest).toEqual({ lines, inputs: [ASKED] });
  });

  test('asks another hook the same when the builder was lost, and hides that from Nix', async () => {
    const { exitCode, lines, inputs } = await run(
      [ASKED],
      [
        { lines: ['# accept', 'ssh-ng://one', 'first', LOST], status: 1 },
        { lines: [UNREACHABLE, '# accept', 'ssh-ng://two', 'second'] },
      ],
    );
    expect(exitCode).toBe(0);
    expect(lines).toEqual([
      ...['# accept', 'ssh-ng://one', 'first'],
      '@nix {"action":"msg","level":1,"msg":"drover-hook: the builder was lost; building again"}',
      'second',
    ]);
    expect(inputs).toEqual([ASKED, ASKED]);
  });

  test.each([
    [
      'a build that failed there',
      "build of '/nix/store/a.drv' on 'ssh-ng://one' failed: unexpected end-of-file",
    ],
    ['another failure', 'error: drover: The build was cancelled by root'],
    ['a log that speaks of one', 'unexpected end-of-file'],
  ])('does not repeat %s', async (what, text) => {
    const line = what.startsWith('a log') ? `@nix {"action":"result","msg":"${text}"}` : errorLine(text);
    const { exitCode, lines } = await run([ASKED], [{ lines: ['# accept', 'one', line], status: 1 }]);
    expect(exitCode).toBe(1);
    expect(lines).toEqual(['# accept', 'one', line]);
  });

  test('gives up after the third loss, and says which', async () => {
    const turn = { lines: ['# accept', 'ssh-ng://one', LOST], status: 1 };
    const { exitCode, lines, inputs } = await run([ASKED], [turn, turn, turn]);
    expect(exitCode).toBe(1);
    expect(lines.at(-1)).toBe(LOST);
    expect(inputs).toHaveLength(3);
  });

  test('has Nix ask again where no builder can be reached, and only there', async () => {
    const { exitCode, lines, inputs } = await run(
      [settings(), question(), question(), work()],
      [{ lines: [UNREACHABLE, NO_MACHINE, '# decline'] }, { lines: ['# accept', 'ssh-ng://one'] }],
    );
    expect(exitCode).toBe(0);
    expect(lines).toEqual([
      UNREACHABLE,
      '@nix {"action":"msg","level":1,"msg":"drover-hook: no builder can be reached; waiting for one"}',
      ...['# postpone', '# accept', 'ssh-ng://one'],
    ]);
    expect(inputs[1]).toEqual(ASKED);

    const none = await run([settings(), question()], [{ lines: [NO_MACHINE, '# decline'] }]);
    expect(none).toMatchObject({ exitCode: 0, lines: [NO_MACHINE, '# decline'] });
  });

  test("runs Nix's own hook where none is named, as older versions of Nix cannot", async () => {
    await writeFile(join(dir, 'nix'), '#!/bin/sh\necho "# $*" >&2\n', { mode: 0o755 });
    const input = Buffer.concat([settings(), question()]);
    const { stderr } = await execa(HOOK, ['3'], { input, env: { PATH: `${dir}:/usr/bin:/bin` } });
    expect(stderr).toBe('# 3');
  });

  test('ends as the hook does when Nix asks nothing', async () => {
    expect(await run([settings()], [{ lines: [], status: 3 }])).toMatchObject({
      exitCode: 3,
      inputs: [settings()],
    });
  });
});
