import { test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

describeE2e('pins in the store of a host where no nix-daemon listens', [], () => {
  test('end with the build: what it read can be collected', async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    for (let time = 0; time < 2; time++) {
      const file = await host.writeFile(`${host.id}-input-${time}`, `input ${time}`);
      const input = succeeded(await host.run('nix-store', ['--add', file])).stdout.trim();
      const derivation = host.derivation(
        `reads-${time}`,
        'cat $input > $out; echo $input > /dev/null',
        `input = builtins.storePath "${input}";`,
      );
      succeeded(await host.build(derivation));
      // Its session is closed a moment after the client.
      await waitUntil('the end of its pin', async () => {
        const dead = await host.run('nix-store', ['--gc', '--print-dead']);
        return dead.stdout.split('\n').includes(input);
      });
    }
  });
});
