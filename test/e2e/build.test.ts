import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { expectNoRemains } from '../support/guests.js';
import { NIX_DIRS, nixHost, succeeded, type NixVersion } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const VERSIONS: readonly NixVersion[] = ['debian', 'modern'];
const DOORS = ['socket', 'ssh'] as const;
const combinations = VERSIONS.flatMap((host) =>
  VERSIONS.flatMap((guest) => DOORS.map((door) => ({ host, guest, door }))),
);

describeE2e('a build', ['modern-nix'], () => {
  test.each(combinations)(
    'with $host Nix on the host, $guest Nix in the guest, through the $door door',
    async ({ host: version, guest, door }) => {
      await using drover = await startDrover({ nix: NIX_DIRS[guest] });
      await using host = await nixHost({ version, door, drover });

      const input = host.derivation('input', 'echo "building the input"; echo from the input > $out');
      const output = host.derivation(
        'output',
        'echo "building the output"; read -r line < $input; echo "$line, seen" > $out; echo $input >> $out',
        `input = ${input};`,
      );
      const { outputs, stderr } = succeeded(await host.build(output));

      expect(stderr).toContain('building the input\n');
      expect(stderr).toContain('building the output\n');
      const [path = ''] = outputs;
      const [line, inputPath] = (await readFile(path, 'utf8')).split('\n');
      expect(line).toBe('from the input, seen');
      expect((await host.run('nix-store', ['--verify-path', path])).exitCode).toBe(0);
      expect((await host.run('nix-store', ['-q', '--references', path])).stdout.trim()).toBe(inputPath);
      expect((await host.run('nix-store', ['--read-log', path])).stdout).toContain('building the output\n');
      expect((await drover.status()).totals).toMatchObject({ builds: 2, failedBuilds: 0, copiedPaths: 0 });
    },
  );

  test.each(VERSIONS)(
    'nix build -L shows the lines of the log with the name in front (%s Nix)',
    async (version) => {
      await using drover = await startDrover({ nix: NIX_DIRS[version] });
      await using host = await nixHost({ version, drover });
      const derivation = host.derivation('logs', 'echo "a line of the log"; echo "another" >&2; echo > $out');
      const { stderr } = succeeded(
        await host.run('nix', ['build', '-L', '--no-link', '--impure', '--expr', derivation]),
      );
      expect(stderr).toMatch(/^\S+> a line of the log$/m);
      expect(stderr).toMatch(/^\S+> another$/m);
    },
  );

  test('in a guest whose state directory is reached through a link', async () => {
    const dir = await mkdtemp('/tmp/linked-');
    try {
      await mkdir(join(dir, 'real/s'), { recursive: true, mode: 0o700 });
      await symlink('real', join(dir, 'link'));
      await using drover = await startDrover({ stateDir: join(dir, 'link/s') });
      await using host = await nixHost({ drover });
      succeeded(await host.build(host.derivation('linked', 'echo > $out')));
      expect((await drover.stop()).exitCode).toBe(0);
      await expectNoRemains(join(dir, 'real/s'));
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
