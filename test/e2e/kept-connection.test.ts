import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const LOGGED_IN = 'ssh client logged in';

describeE2e('the ssh connection that drover machines sets up', ['modern-nix'], () => {
  test.each(['debian', 'modern'] as const)('is shared by all builds (%s Nix)', async (version) => {
    await using drover = await startDrover();
    await using host = await nixHost({ version, door: 'ssh', drover });
    succeeded(await host.build(host.derivation('first', 'echo > $out')));
    const client = host.startBuild(host.derivation('endless', 'echo "it has begun"; sleep 86399'));
    await client.waitForOutput('it has begun');
    client.signalGroup('SIGINT');
    await drover.events.waitFor('build-finished', ({ result }) => result === 'Cancelled');
    succeeded(await host.build(host.derivation('next', 'echo > $out')));
    expect(drover.log.filter(({ msg }) => msg === LOGGED_IN)).toHaveLength(1);
  });
});
