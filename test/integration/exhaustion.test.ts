import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { expect, test } from '@jest/globals';

import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';

/**
 * Runs statements in a separate process with `spare` of 64 descriptors left. @returns the lines it printed
 */
async function withSpare(spare: number, statements: string): Promise<string[]> {
  const script = `
    import { closeSync, openSync } from 'node:fs';
    import { run, spawnStream } from '${join(REPOSITORY, 'dist/lib/process.js')}';
    import { DescriptorBudget } from '${join(REPOSITORY, 'dist/lib/descriptors.js')}';
    for (const name of ['uncaughtException', 'unhandledRejection'])
      process.on(name, (error) => console.log(name, String(error)));
    const held = [];
    try { for (;;) held.push(openSync('/dev/null')); } catch {}
    for (const descriptor of held.splice(0, ${spare})) closeSync(descriptor);
    const tell = async (promise) => {
      try { console.log('done', JSON.stringify(await promise)); } catch (error) { console.log(error.code, error.message); }
    };
    ${statements}
    await new Promise((resolve) => setTimeout(resolve, 20));`;
  const { stdout } = await promisify(execFile)('/bin/sh', [
    '-c',
    'ulimit -n 64; exec "$0" --input-type=module -e "$1"',
    process.execPath,
    script,
  ]);
  return stdout.trim().split('\n');
}

describeWith('where few descriptors are left', ['dist'], () => {
  test.each([0, 1, 2, 3, 4, 5])(
    'with %i, a program is not started, and the error says why',
    async (spare) => {
      const [first, ...more] = await withSpare(spare, "await tell(run('/bin/true', [], { input: 'x' }));");
      expect(first).toMatch(
        /^HOST_EXHAUSTED \/bin\/true cannot be started: no file descriptor is free \(.*EMFILE/,
      );
      expect(more).toEqual([]);
    },
  );

  test('a stream to a program that cannot be started is an error', async () => {
    const lines = await withSpare(1, "await tell(spawnStream('/bin/cat', [], {}));");
    expect(lines).toEqual([expect.stringMatching(/^HOST_EXHAUSTED \/bin\/cat cannot be started/)]);
  });

  test('failures keep no descriptor, and programs start again once there are some', async () => {
    const lines = await withSpare(
      2,
      `for (let count = 0; count < 50; count++) await run('/bin/true', []).catch(() => undefined);
      for (const descriptor of held.splice(0, 8)) closeSync(descriptor);
      await tell(run('/bin/echo', ['again']));`,
    );
    expect(lines).toEqual(['done {"exitCode":0,"stdout":"again\\n","stderr":""}']);
  });

  test('a further session is refused from an eighth of the limit on', async () => {
    const lines = await withSpare(
      8,
      `let time = 0;
      const budget = new DescriptorBudget(64, { now: () => time });
      console.log(budget.shortage()?.message);
      for (const descriptor of held.splice(0, 4)) closeSync(descriptor);
      time = 1000;
      console.log(budget.shortage()?.message);`,
    );
    expect(lines).toEqual([
      expect.stringMatching(/^Drover cannot take another session: no file descriptor is free \([78] of 64/),
      'undefined',
    ]);
  });
});
