import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { NIX_DIRS, nixHost } from '../support/nix.js';
import { comparableOutput, plainRemoteHost } from '../support/plain-remote.js';
import { describeE2e } from '../support/requirements.js';

const SCRIPTS = [
  ['exits with a status of its own', 'echo first; echo second >&2; exit 3'],
  ['makes no output', 'echo only this'],
  ['prints many lines', 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo "line $i"; done; exit 1'],
  ['refers to what it may not', 'echo $forbidden > $out'],
] as const;

describeE2e('a build that fails', ['modern-nix'], () => {
  test.each(['debian', 'modern'] as const)(
    'ends for the client as with any other remote builder (%s Nix)',
    async (version) => {
      await using drover = await startDrover({ nix: NIX_DIRS[version] });
      await using host = await nixHost({ version, drover });
      await using plain = await plainRemoteHost(version);
      for (const [name, script] of SCRIPTS) {
        const failing = host.derivation(
          'fails',
          script,
          'allowedReferences = []; forbidden = builtins.toFile "forbidden" "x";',
        );
        const ours = await host.build(failing);
        const theirs = await plain.host.build(failing);
        expect({ name, exitCode: ours.exitCode }).toEqual({ name, exitCode: theirs.exitCode });
        expect(comparableOutput(ours)).toEqual(comparableOutput(theirs));
      }
      expect((await drover.status()).totals).toMatchObject({
        builds: SCRIPTS.length,
        failedBuilds: SCRIPTS.length,
      });
    },
  );

  test('does not keep others from being built, and they are named as with a local build', async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    await using local = await nixHost();
    const failing = host.derivation('fails', 'echo a line of its log; exit 3');
    const dependent = host.derivation('dependent', 'echo > $out', `input = ${failing};`);
    const good = host.derivation('good', 'echo well > $out');

    const ours = await host.build(`[ ${dependent} ${good} ]`, ['--keep-going']);
    const theirs = await local.build(dependent);

    expect(ours.exitCode).not.toBe(0);
    for (const text of [
      'a line of its log\n',
      'failed with exit code 3',
      /error: 1 dependencies of derivation '.*-dependent.drv' failed to build/,
    ]) {
      expect(ours.stderr).toMatch(text);
      expect(theirs.stderr).toMatch(text);
    }
    expect((await host.build(good)).stderr).not.toContain('building');
  });
});
