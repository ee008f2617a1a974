import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execPath } from 'node:process';

import { expect, test } from '@jest/globals';

import { run } from '../../src/lib/process.js';
import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper } from '../support/vz-helper.js';

interface Report {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly rows: readonly { readonly probe: string; readonly seen: string; readonly holds?: boolean }[];
}

test.each([
  ['ends at once', 'exit 3', 'vz-helper has ended (3)'],
  ['sends anything else', 'echo hello; exec cat > /dev/null', 'vz-helper sent an invalid message: hello'],
  ['repeats what it is asked', 'exec cat', 'neither a result nor an error'],
])('a helper that %s is a failure: in the table, as JSON and in the exit status', async (_, body, seen) => {
  const dir = await mkdtemp(join(tmpdir(), 'mac-truth-'));
  try {
    for (const file of ['kernel', 'initrd']) await writeFile(join(dir, file), 'x');
    const helper = join(dir, 'helper');
    await writeFile(helper, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    const json = join(dir, 'report.json');
    const { exitCode, stdout } = await run(
      join(REPOSITORY, 'scripts/mac-truth.sh'),
      [dir, '--files', '1', '--json', json],
      { env: { ...process.env, DROVER_VZ_HELPER: helper } },
    );
    expect(exitCode).toBe(1);
    expect(stdout).toContain(`| hello | NO | hello: ${seen} |`);
    const { rows } = JSON.parse(await readFile(json, 'utf8')) as Report;
    expect(rows.map(({ probe, holds }) => [probe, holds])).toEqual([
      ['hello', false],
      ['guest', false],
    ]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

/** A rehearsal: the double is the framework, and namespaces of this host answer as the guest. */
describeWith('scripts/mac-truth.sh', ['root', 'vz-helper'], () => {
  test('asks every question, and reports in a table and as JSON', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'mac-truth-'));
    try {
      const compile = async (program: string, ...sources: readonly string[]): Promise<void> => {
        const { exitCode, stderr } = await run('sh', [
          '-c',
          `exec cc -O1 -Wall -Wextra -Werror -pthread -o ${dir}/${program} ${sources.join(' ')}`,
        ]);
        expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
      };
      await compile('truth-guest', `${REPOSITORY}/scripts/mac-truth/guest.c`);
      await compile('exact-store', `${REPOSITORY}/guest-config/exact-store/*.c`);
      for (const name of ['image', 'vms']) await mkdir(join(dir, name));
      for (const file of ['kernel', 'initrd']) await writeFile(join(dir, 'image', file), 'x');
      const settings = [
        'DROVER_VZ_DOUBLE=panicResets',
        `DROVER_VZ_DOUBLE_DIR=${dir}/vms`,
        `DROVER_VZ_DOUBLE_GUEST=${REPOSITORY}/test/fixtures/vz-guest/truth-guest.mjs`,
        `DROVER_TEST_TRUTH=${dir}`,
        `PATH=${dirname(execPath)}:$PATH`,
      ];
      const helper = join(dir, 'helper');
      await writeFile(helper, `#!/bin/sh\nexport ${settings.join(' ')}\nexec ${await buildVzHelper()}\n`);
      await chmod(helper, 0o755);

      const json = join(dir, 'report.json');
      const script = join(REPOSITORY, 'scripts/mac-truth.sh');
      const { exitCode, stdout, stderr } = await run(
        script,
        [join(dir, 'image'), '--files', '100', '--sleep', '--json', json],
        { env: { ...process.env, DROVER_VZ_HELPER: helper } },
      );
      const { facts, rows } = JSON.parse(await readFile(json, 'utf8')) as Report;
      expect({ exitCode, stderr, wrong: rows.filter(({ holds }) => holds === false) }).toEqual({
        exitCode: 0,
        stderr: '',
        wrong: [],
      });
      expect(facts).toMatchObject({ supported: true, entitled: true });
      const seen = Object.fromEntries(rows.map((row) => [row.probe, row.seen]));
      // As the double is known to behave.
      expect(seen).toMatchObject({
        'lock, raw': 'opened',
        'lock, exact': 'absent',
        'half-close': 'not passed on',
        'closed port': expect.stringContaining('NSPOSIXErrorDomain 54'),
        '512 connections': '512 answered; the next: ERROR vz-helper 7 too many connections',
        // The two signals that stand for it may come in either order.
        sleep: expect.stringMatching(/sleep, wake|wake, sleep/),
        panic: expect.stringContaining('reset in place'),
        poweroff: expect.stringContaining('stopped'),
        'kill -9 of the supervisor': expect.stringContaining('processes ended'),
      });
      for (const { probe } of rows) expect(stdout).toContain(`\n| ${probe} | `);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
