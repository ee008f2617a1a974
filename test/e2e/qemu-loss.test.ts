import { mkdtemp, readFile, rm } from 'node:fs/promises';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import type { Drover } from '../support/drover.js';
import { expectNoRemains, remainsOfGuests } from '../support/guests.js';
import { nixHost, succeeded, type NixHost, type NixProcess } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import {
  lossOf,
  onlyGuest,
  processesOf,
  ROOT_BUILDS,
  startVmDrover,
  VM_DEADLINE_MS,
} from '../support/vms.js';
import { waitUntil } from '../support/wait.js';

/** A guest that hangs is noticed within 15 s of its clock; a busy machine needs longer, in milliseconds. */
const HANG_DEADLINE_MS = 60_000;

describeE2e('a VM that is lost in the middle of a build', ['vms'], () => {
  let drover: Drover;
  let host: NixHost;

  beforeAll(async () => {
    drover = await startVmDrover({ guest: ROOT_BUILDS, pool: { maxGuests: 1 } });
    host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
  }, VM_DEADLINE_MS);
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
  });

  /**
   * Starts a build that runs `inGuest` as root in its first guest, once its client has seen that it runs:
   * otherwise the guest's last output would be lost with it. In another guest it finds the file that it waits for.
   */
  async function startVictim(name: string, inGuest: string): Promise<{ client: NixProcess; guest: string }> {
    const since = drover.events.position;
    const go = `${host.id}-go-${name}`;
    const script = `may_go() { /bin/ls /run/host | /bin/grep -q -- '-${go}$'; }
    if ! may_go; then
      echo "it has begun"
      until may_go; do /bin/sleep 0.05; done
      ${inGuest}; /bin/sleep 86399
    fi; echo survived > $out`;
    const client = host.startBuild(host.derivation(name, script, '__noChroot = true;'));
    await client.waitForOutput('it has begun', VM_DEADLINE_MS);
    succeeded(await host.run('nix-store', ['--add', await host.writeFile(go, '')]));
    const { guest } = await drover.events.waitFor('build-started', () => true, { since });
    return { client, guest };
  }

  async function expectReplayed(
    { client, guest }: { client: NixProcess; guest: string },
    how: RegExp,
  ): Promise<void> {
    const { stdout, stderr } = succeeded(await client.ended);
    expect(await readFile(stdout.trim(), 'utf8')).toBe('survived\n');
    expect(stderr).toMatch(new RegExp(`guest ${guest} (was lost: |ended).*\\(1 of 2\\)`));
    expect(await lossOf(drover, guest)).toMatch(how);
    await waitUntil('the end of the lost guest', async () =>
      (await remainsOfGuests(drover.stateDir)).every(
        (what) => !what.includes(`/${guest}/`) && !what.endsWith(` ${guest}`),
      ),
    );
  }

  test.each([
    { program: 'qemu-system', how: /^its (QEMU: it was killed by SIGKILL|SSH connection ended)/ },
    { program: 'virtiofsd', how: /^its virtiofsd: it was killed by SIGKILL/ },
  ] as const)(
    'kill -9 of its $program',
    async ({ program, how }) => {
      const victim = await startVictim(program, ':');
      const [pid = -1] = await processesOf(drover.stateDir, victim.guest, program);
      process.kill(pid, 'SIGKILL');
      await expectReplayed(victim, how);
    },
    2 * VM_DEADLINE_MS,
  );

  test(
    'kill -9 of the nix-daemon in it',
    async () => {
      const victim = await startVictim('daemon', '/bin/kill -9 $(/bin/pidof nix-daemon)');
      await expectReplayed(victim, /nix-daemon has ended/);
    },
    2 * VM_DEADLINE_MS,
  );

  test(
    'a panic of its kernel',
    async () => {
      const victim = await startVictim('panic', 'echo c > /proc/sysrq-trigger');
      await expectReplayed(victim, /Kernel panic - not syncing: sysrq triggered crash/);
    },
    2 * VM_DEADLINE_MS,
  );

  test(
    'a hang',
    async () => {
      const victim = await startVictim('hang', ':');
      const [pid = -1] = await processesOf(drover.stateDir, victim.guest, 'qemu-system');
      const since = drover.events.position;
      process.kill(pid, 'SIGSTOP');
      await drover.events.waitFor('build-replayed', () => true, { since, deadlineMs: HANG_DEADLINE_MS });
      await expectReplayed(victim, /^it has not answered for 12 s/);
    },
    2 * VM_DEADLINE_MS,
  );
});

describeE2e('a supervisor with a VM', ['vms'], () => {
  test(
    'killed in the middle of a build: nothing is left but a directory, and the next start removes it',
    async () => {
      const stateDir = await mkdtemp('/tmp/st-');
      try {
        let guest = '';
        {
          await using drover = await startVmDrover({ stateDir });
          await using host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
          const client = host.startBuild(host.derivation('endless', 'echo "it has begun"; sleep 86399'));
          await client.waitForOutput('it has begun', VM_DEADLINE_MS);
          guest = await onlyGuest(drover);
          drover.signal('SIGKILL');
          await drover.exited;
          expect((await client.ended).exitCode).not.toBe(0);
          await waitUntil('the end of everything but directories', async () =>
            (await remainsOfGuests(stateDir)).every((what) => what.startsWith('directory')),
          );
        }
        await using drover = await startVmDrover({ stateDir });
        expect(await drover.waitForLog('cleaned up after an earlier run')).toMatchObject({
          found: `removed the directory of guest ${guest}`,
        });
        await expectNoRemains(stateDir);
      } finally {
        await rm(stateDir, { recursive: true, force: true });
      }
    },
    2 * VM_DEADLINE_MS,
  );
});
