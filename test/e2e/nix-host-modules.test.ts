import { mkdir, mkdtemp, readlink, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { makeKey, startDrover } from '../support/drover.js';
import { darwin } from '../support/host-modules.js';
import { nixHost, succeeded } from '../support/nix.js';
import { ownAddress } from '../support/own-address.js';
import { describeE2e } from '../support/requirements.js';

let dir: string;
beforeEach(async () => {
  // Short, since the paths of Unix sockets are bounded.
  dir = await mkdtemp('/tmp/hm-');
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

describeE2e('what the module for nix-darwin writes', [], () => {
  test('is a configuration to run with, and a build machine that Nix builds on, through both doors', async () => {
    const stateDir = join(dir, 's');
    const identity = join(dir, 'id');
    const { publicKey } = await makeKey(identity);
    const configuration = (door: string): string => `{ services.drover = {
      door = "${door}"; systems = [ "x86_64-linux" ]; workingDirectory = "${stateDir}";
      scratchSize = "2GiB"; metrics.listen = null;
      ssh = { enable = true; listen = "${ownAddress()}:31122"; authorizedKeys = [ "${publicKey}" ]; identityFile = "${identity}"; };
    }; }`;
    const bySocket = await darwin(configuration('socket'));
    const bySsh = await darwin(configuration('ssh'));
    expect([bySocket.failed, bySsh.failed]).toEqual([[], []]);

    // Here guests are namespaces.
    const config = { ...bySocket.settings, driver: 'namespace', log: { level: 'debug' } };
    await using drover = await startDrover({ stateDir, config });
    expect(`${await drover.machines('socket')}\n`).toBe(bySocket.machines);
    for (const { machines, etc } of [bySocket, bySsh]) {
      await using host = await nixHost({ drover, nixConf: { builders: machines.trim() } });
      await host.writeFile('ssh_config', etc['ssh/ssh_config.d/100-drover.conf'] ?? '');
      succeeded(await host.build(host.derivation('built', 'echo built > $out')));
    }
    expect((await drover.status()).totals.builds).toBe(2);
  });

  test("makes its directory, which only root can enter, and the image's root, when it is activated", async () => {
    const roots = join(dir, 'gcroots');
    const activate = async (configuration: string): Promise<void> => {
      const { activation } = await darwin(configuration);
      await execa('bash', [
        '--norc',
        '-c',
        `set -e\n${activation.replaceAll('/nix/var/nix/gcroots', roots)}`,
      ]);
    };
    const link = join(roots, 'drover-guest-image');
    const state = join(dir, 'lib/drover');
    await activate(`{ services.drover = { workingDirectory = "${state}"; guest.image = "build"; }; }`);
    expect((await stat(state)).mode & 0o777).toBe(0o700);
    expect(await readlink(link)).toMatch(/^\/nix\/store\/\w+-image-with-0-modules$/);

    await rm(state, { recursive: true });
    await mkdir(state, { mode: 0o755 });
    await activate(`({ lib, ... }: { services.drover = { workingDirectory = "${state}";
      guest.image = "/nix/store/00000000000000000000000000000000-other/manifest.json"; }; })`);
    expect((await stat(state)).mode & 0o777).toBe(0o700);
    expect(await readlink(link)).toBe('/nix/store/00000000000000000000000000000000-other');

    await activate('({ lib, ... }: { services.drover.enable = lib.mkForce false; })');
    await expect(readlink(link)).rejects.toThrow('ENOENT');
  });
});
