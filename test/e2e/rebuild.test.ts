import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';

import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { NIX_DIRS, nixHost, succeeded } from '../support/nix.js';
import { plainRemoteHost } from '../support/plain-remote.js';
import { describeE2e } from '../support/requirements.js';

describeE2e('a derivation that has been built', ['modern-nix'], () => {
  test('needs no guest the second time', async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    const derivation = host.derivation('once', 'echo once > $out');
    const first = succeeded(await host.build(derivation));
    const second = succeeded(await host.build(derivation));
    expect(second.outputs).toEqual(first.outputs);
    expect((await drover.status()).totals).toMatchObject({ builds: 1, guestsBooted: 1 });
  });

  test('is built again in the guest that built it, after the host has collected its output', async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    const derivation = host.derivation('again', 'echo again > $out');
    const [path = ''] = succeeded(await host.build(derivation)).outputs;
    await host.deletePaths(path);
    expect(existsSync(path)).toBe(false);
    succeeded(await host.build(derivation));
    expect(await readFile(path, 'utf8')).toBe('again\n');
    expect((await drover.status()).totals).toMatchObject({ builds: 2, failedBuilds: 0, guestsBooted: 1 });
  });

  test('is built again in another guest, where the first one only shared its output and the host has collected it', async () => {
    await using earlier = await startDrover();
    await using drover = await startDrover();
    await using builder = await nixHost({ drover: earlier });
    await using host = await nixHost({ drover });
    const input = host.derivation('input', 'echo "building the input"; echo in > $out');
    const [inputPath = ''] = succeeded(await builder.build(input)).outputs;

    const user = host.derivation('user', 'cat $input > $out', `input = ${input};`);
    const [userPath = ''] = succeeded(await host.build(user)).outputs;
    expect((await drover.status()).totals).toMatchObject({ builds: 1, sharedPaths: 1, copiedPaths: 0 });
    const { guest } = await drover.events.waitFor('build-finished');

    await host.deletePaths(inputPath, userPath);
    const again = succeeded(await host.build(user));
    expect(again.stderr).toContain('building the input\n');
    expect(await readFile(userPath, 'utf8')).toBe('in\n');
    await drover.caughtUp();
    expect(drover.events.of('guest-retired')).toMatchObject([{ guest, reason: 'conflict' }]);
    expect((await drover.status()).totals).toMatchObject({ builds: 3, failedBuilds: 0, copiedPaths: 0 });
  });

  test.each(['debian', 'modern'] as const)(
    'is built again for the one of its outputs that the host has not (%s Nix)',
    async (version) => {
      await using drover = await startDrover({ nix: NIX_DIRS[version] });
      await using host = await nixHost({ version, drover });
      const derivation = host.derivation('two', 'echo 1 > $out; echo 2 > $dev', 'outputs = [ "out" "dev" ];');
      const [out = ''] = succeeded(await host.build(derivation)).outputs;
      const [dev = ''] = succeeded(await host.build(`${derivation}.dev`)).outputs;
      await host.deletePaths(dev);
      succeeded(await host.build(`${derivation}.dev`));
      expect(await readFile(out, 'utf8')).toBe('1\n');
      expect(await readFile(dev, 'utf8')).toBe('2\n');
      expect((await drover.status()).totals).toMatchObject({ builds: 2, failedBuilds: 0 });
    },
  );

  test('is built where the host has rubbish in the place of its output', async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    const derivation = host.derivation('place', 'echo right > $out');
    const path = (
      await host.run('nix-instantiate', ['--eval', '--expr', `${derivation}.outPath`])
    ).stdout.trim();
    const place = JSON.parse(path) as string;
    await writeFile(place, 'rubbish');
    succeeded(await host.build(derivation));
    expect(await readFile(place, 'utf8')).toBe('right\n');
  });

  test.each(['debian', 'modern'] as const)(
    '--check ends as with any other remote builder: Nix asks none to build again (%s Nix)',
    async (version) => {
      await using drover = await startDrover({ nix: NIX_DIRS[version] });
      await using host = await nixHost({ version, drover });
      await using plain = await plainRemoteHost(version);
      const results = [];
      for (const each of [host, plain.host]) {
        const derivation = each.derivation('checked', 'echo "it is built"; echo 1 > $out');
        succeeded(await each.build(derivation));
        const { exitCode, stderr } = await each.build(derivation, ['--check']);
        results.push({
          exitCode,
          built: stderr.includes('it is built'),
          lastLine: stderr
            .split('\n')
            .filter((line) => !line.startsWith('drover: '))
            .at(-2),
        });
      }
      expect(results[0]).toEqual(results[1]);
      expect((await drover.status()).totals.failedBuilds).toBe(0);
    },
  );
});
