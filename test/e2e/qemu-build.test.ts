import { readFile } from 'node:fs/promises';

import { expect, test } from '@jest/globals';

import { expectNoRemains } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { endByIdleness, startVmDrover, VM_DEADLINE_MS } from '../support/vms.js';

describeE2e('a build in a VM', ['vms', 'modern-nix'], () => {
  test.each([
    { architecture: 'x86_64', door: 'socket', version: 'debian' },
    { architecture: 'x86_64', door: 'ssh', version: 'modern' },
    { architecture: 'aarch64', door: 'socket', version: 'modern' },
  ] as const)(
    'of $architecture that did not run, through the $door door ($version Nix), and back to none',
    async ({ architecture, door, version }) => {
      await using drover = await startVmDrover({ image: architecture });
      await using host = await nixHost({ version, door, drover, deadlineMs: VM_DEADLINE_MS });
      expect((await drover.status()).guests).toEqual([]);

      const input = host.derivation('input', 'echo "building the input"; uname -m > $out');
      const output = host.derivation(
        'output',
        'read -r line < $input; echo "$line, seen" > $out; echo $input >> $out',
        `input = ${input};`,
      );
      const { outputs, stderr } = succeeded(
        await host.build(output.replaceAll('x86_64-linux', `${architecture}-linux`)),
      );

      expect(stderr).toContain('building the input\n');
      const [line, inputPath] = (await readFile(outputs[0] ?? '', 'utf8')).split('\n');
      expect(line).toBe(`${architecture}, seen`);
      expect((await host.run('nix-store', ['-q', '--references', outputs[0] ?? ''])).stdout.trim()).toBe(
        inputPath,
      );
      expect((await drover.status()).totals).toMatchObject({ failedBuilds: 0, copiedPaths: 0 });
      await endByIdleness(drover);
      await expectNoRemains(drover.stateDir);
    },
    2 * VM_DEADLINE_MS,
  );
});
