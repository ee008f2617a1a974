import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** Loop devices that are backed by files in a directory. */
async function loopsIn(directory: string): Promise<string[]> {
  const devices = (await readdir('/sys/block')).filter((name) => name.startsWith('loop'));
  const files = await Promise.all(
    devices.map(
      async (name) => await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => ''),
    ),
  );
  return files.filter((file) => file.startsWith(directory));
}

describeE2e('a scratch on disk', ['loop', 'e2fsprogs'], () => {
  test('holds what a build writes, is bounded, and goes with its guest', async () => {
    await using drover = await startDrover({
      config: { guest: { scratch: 'disk', scratchSize: '200MiB' }, pool: { maxBuilds: 1 } },
    });
    await using host = await nixHost({ drover });
    const { outputs } = succeeded(
      await host.build(host.derivation('large', 'dd if=/dev/urandom of=$out bs=1M count=50; true')),
    );
    expect((await readFile(outputs[0] ?? '')).length).toBe(50 * 1024 * 1024);
    await drover.events.waitFor('guest-state', ({ to }) => to === 'stopped');
    const tooLarge = await host.build(
      host.derivation('too-large', 'dd if=/dev/zero of=$out bs=1M count=300'),
    );
    expect(tooLarge.exitCode).not.toBe(0);
    expect(tooLarge.stderr).toContain('raise guest.scratchSize');
    await drover.stop();
    expect(await readdir(join(drover.stateDir, 'guests'))).toEqual([]);
    // The kernel detaches them in its own time.
    await waitUntil('the end of its loop devices', async () => {
      return (await loopsIn(join(drover.stateDir, 'guests'))).length === 0;
    });
  });
});
