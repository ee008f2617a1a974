import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { REPOSITORY } from '../support/drover.js';
import type { Status } from '../../src/control/api.js';
import { HELD } from '../support/guests.js';
import { nixos } from '../support/host-modules.js';
import { nixString } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { Systemd } from '../support/systemd.js';
import { waitUntil } from '../support/wait.js';

const CONFIG = 'metrics: null\nguest: { scratchSize: 1GiB }\n';
const CLIENT = `set -eu
export HOME=/root NIX_CONF_DIR=/run/client NIX_USER_CONF_FILES=
mkdir -p $NIX_CONF_DIR
printf '%s\\n' 'substituters =' 'sandbox = false' 'build-users-group =' 'max-jobs = 0' 'system = aarch64-darwin' \
  "builders = $(drover machines)" > $NIX_CONF_DIR/nix.conf
exec nix-build --no-out-link -E "$1"`;

interface Host {
  readonly unit: string;
  /** Rules of systemd-tmpfiles. */
  readonly tmpfiles: string;
}

/** Hosts of both kinds, each with the programs that are here. */
const HOSTS: readonly (readonly [string, () => Promise<Host>])[] = [
  [
    'packaging/drover.service',
    async () => ({
      unit: await readFile(join(REPOSITORY, 'packaging/drover.service'), 'utf8'),
      tmpfiles: '',
    }),
  ],
  [
    'the service of the NixOS module',
    async () => {
      const { unit, tmpfiles } = await nixos('{ }');
      return {
        unit: unit
          .replace(/^ExecStart=\S+/m, 'ExecStart=/usr/local/bin/drover')
          .replace(/^ExecReload=\S+/m, 'ExecReload=/bin/kill'),
        tmpfiles: tmpfiles.map((rule) => `${rule}\n`).join(''),
      };
    },
  ],
];

const PID_FILE = '/var/lib/drover/drover.pid';

/** The capabilities that the units list, as a set of bits (capability.h). */
const LISTED = 0x89ac_15ffn;

/** Capabilities that a process could ever have. */
function boundingSet(procStatus: string): bigint {
  return BigInt(`0x${/^CapBnd:\s(\w+)$/m.exec(procStatus)?.[1] ?? ''}`);
}

function derivation(name: string, system: string, script: string): string {
  return `derivation { name = "systemd-${name}"; system = "${system}"; builder = "/bin/sh"; args = [ "-c" ${nixString(script)} ]; }`;
}

describeE2e('under systemd, with all that its unit forbids', ['systemd'], () => {
  test.each(HOSTS)('%s: builds, reloads, drains', async (_, host) => {
    const { unit, tmpfiles } = await host();
    await using systemd = await Systemd.start(
      {
        'test.target': '[Unit]\nWants=drover.service nix-daemon.service tmpfiles.service\n',
        'nix-daemon.service': '[Service]\nExecStart=/usr/bin/nix-daemon\n',
        'tmpfiles.service':
          '[Unit]\nBefore=drover.service\n[Service]\nType=oneshot\nExecStart=/bin/systemd-tmpfiles --create /etc/drover/tmpfiles.conf\n',
        'drover.service': unit,
      },
      { 'drover/drover.yaml': CONFIG, 'drover/tmpfiles.conf': tmpfiles },
    );
    const status = async (): Promise<Status | undefined> => {
      const { exitCode, stdout } = await systemd.run('drover', 'status', '--json');
      return exitCode === 0 ? (JSON.parse(stdout) as Status) : undefined;
    };
    await waitUntil('drover to be running', async () => (await status())?.state === 'running');

    // Nix sets a personality for i686, and root's own programs are on their way to the guest.
    const built = await systemd.run(
      'sh',
      '-c',
      CLIENT,
      'sh',
      `[
      (${derivation('native', 'x86_64-linux', 'cp /bin/sh sh; chmod u+s sh; echo built > $out')})
      (${derivation('other', 'i686-linux', 'uname -m; echo built > $out')}) ]`,
    );
    expect(built).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/-systemd-native\n.*-systemd-other$/s),
    });
    expect(built.stderr).toContain('i686');
    const supervisor = `/proc/${(await systemd.run('cat', PID_FILE)).stdout}/status`;
    const limits = (await systemd.run('cat', supervisor)).stdout;
    expect(limits).toMatch(/^NoNewPrivs:\s1$/m);
    expect(boundingSet(limits)).toBe(boundingSet(await readFile('/proc/self/status', 'utf8')) & LISTED);

    const pid = await systemd.run('cat', PID_FILE);
    const pool = 'pool: { maxGuests: 5, drainTimeout: 1h }\n';
    await systemd.writeFile('/etc/drover/drover.yaml', `${CONFIG}${pool}`);
    await waitUntil('the change to be noticed', async () => (await status())?.maxGuests === 5);
    expect((await systemd.run('systemctl', 'reload', 'drover')).exitCode).toBe(0);
    expect(await systemd.run('cat', PID_FILE)).toEqual(pid);

    const building = systemd.run(
      'sh',
      '-c',
      CLIENT,
      'sh',
      derivation('slow', 'x86_64-linux', `${HELD}; echo > $out`),
    );
    const sleep = ['-x', '-f', 'sleep 86397'];
    await waitUntil('it to begin', async () => (await systemd.run('pgrep', ...sleep)).exitCode === 0);
    const stopped = systemd.run('systemctl', 'stop', 'drover');
    await waitUntil('the end of Drover to begin', async () => (await status())?.state === 'draining');
    expect(await systemd.run('pkill', ...sleep)).toMatchObject({ exitCode: 0 });
    expect(await stopped).toMatchObject({ exitCode: 0 });
    expect(await building).toMatchObject({ exitCode: 0 });
    const { stdout: ended } = await systemd.run(
      'systemctl',
      'show',
      'drover',
      '-p',
      'Result,NRestarts,ExecMainStatus',
    );
    expect(ended.split('\n').sort()).toEqual(['ExecMainStatus=0', 'NRestarts=0', 'Result=success']);
    expect((await systemd.run('ls', '-A', '/var/lib/drover/guests')).stdout).toBe('');
  });
});
