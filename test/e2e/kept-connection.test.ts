import { dirname } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { startDrover } from '../support/drover.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const AUTHENTICATED = 'ssh client authenticated';

describeE2e('an ssh connection that its user keeps open', ['modern-nix'], () => {
  test.each(['debian', 'modern'] as const)('is used by all builds (%s Nix)', async (version) => {
    await using drover = await startDrover();
    await using host = await nixHost({ version, door: 'ssh', drover });
    // Not in the home directory of the user who runs this.
    const dir = dirname(drover.stateDir);
    const config = await host.writeFile('ssh_config', (await drover.sshConfig()).replace('~/.ssh', dir));
    const ssh = async (...args: string[]) => await execa('ssh', ['-F', config, ...args, 'drover']);
    await ssh('-fNM');
    try {
      succeeded(await host.build(host.derivation('first', 'echo > $out')));
      const client = host.startBuild(host.derivation('endless', 'echo "it has begun"; sleep 86399'));
      await client.waitForOutput('it has begun');
      client.signalGroup('SIGINT');
      await drover.events.waitFor('build-finished', ({ result }) => result === 'Cancelled');
      succeeded(await host.build(host.derivation('next', 'echo > $out')));
      expect(drover.log.filter(({ msg }) => msg === AUTHENTICATED)).toHaveLength(1);
    } finally {
      await ssh('-O', 'exit');
    }
    succeeded(await host.build(host.derivation('without-it', 'echo > $out')));
    expect(drover.log.filter(({ msg }) => msg === AUTHENTICATED)).toHaveLength(2);
  });
});
