import { readFile } from 'node:fs/promises';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { startDrover } from '../support/drover.js';
import { guestInit, guestProcesses } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

/** Undefined if it has ended. */
const scoreOf = async (pid: number): Promise<number | undefined> =>
  await readFile(`/proc/${pid}/oom_score_adj`, 'utf8').then(Number, () => undefined);

/** Some containers and VMs withhold CAP_SYS_RESOURCE from root. */
async function mayLowerScores(): Promise<boolean> {
  const CAP_SYS_RESOURCE = 24n;
  const [, bits = '0'] = /^CapEff:\t(\w+)$/m.exec(await readFile('/proc/self/status', 'utf8')) ?? [];
  return ((BigInt(`0x${bits}`) >> CAP_SYS_RESOURCE) & 1n) === 1n;
}

describeE2e("a guest's memory", ['memory-cgroup'], () => {
  test('is bounded by guest.memory, which a build that is killed for it is told, and others go on', async () => {
    await using drover = await startDrover({ config: { guest: { memory: '256MiB' } } });
    await using host = await nixHost({ drover });
    const { exitCode, stderr } = await host.build(
      host.derivation('hog', 'dd if=/dev/zero of=/dev/null bs=600M count=1 && echo > $out'),
    );
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(
      /drover: the kernel killed a process of the guest g\d+, whose builds reached its memory limit \(256 MiB, peak 25\d MiB\); raise guest.memory/,
    );
    succeeded(await host.build(host.derivation('modest', 'echo > $out')));
    expect((await drover.status()).totals).toMatchObject({ guestsBooted: 1, replayedBuilds: 0 });
  });

  test('ends before that of the supervisor, if the whole host runs out', async () => {
    // No nix-daemon listens there: Drover starts its own.
    await using drover = await startDrover({ env: { NIX_DAEMON_SOCKET_PATH: '/nonexistent' } });
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('boots-a-guest', 'echo > $out')));
    expect(await scoreOf(drover.pid)).toBe((await mayLowerScores()) ? -900 : 0);
    const { guest } = await drover.events.waitFor('build-started');
    const init = await guestInit(drover.stateDir, guest);
    expect(await scoreOf(init)).toBe(500);
    for (const { pid } of await guestProcesses(init)) expect([500, undefined]).toContain(await scoreOf(pid));
    const { stdout } = await execa('pgrep', ['--parent', String(drover.pid), 'nix-daemon']);
    expect(await scoreOf(Number(stdout))).toBe(0);
  });
});
