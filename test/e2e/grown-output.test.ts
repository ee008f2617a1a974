import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { WorkerClient } from '../../src/daemon/worker-client.js';
import { connectUnixSocket } from '../../src/lib/unix-socket.js';
import { encodeBuildDerivation, encodeNarFromPath } from '../../src/protocol/operations.js';
import { decodeBuildDerivationResponse } from '../../src/protocol/responses.js';
import { decodeStderrFrame } from '../../src/protocol/stderr.js';
import { LATEST_VERSION } from '../../src/protocol/version.js';
import { startDrover } from '../support/drover.js';
import { guestInit, inGuest } from '../support/guests.js';
import { storePath } from '../support/scripted-daemon.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

const CONTENTS = 'genuine';

async function connect(stateDir: string): Promise<WorkerClient> {
  return await WorkerClient.connect(
    await connectUnixSocket(join(stateDir, 'doors/nix.sock')),
    LATEST_VERSION,
    'The door',
  );
}

/** Builds a file of its own. @returns its path */
async function build(client: WorkerClient, name: string): Promise<ReturnType<typeof storePath>> {
  const path = storePath(`${name}-${process.pid}`);
  const script = `echo ${CONTENTS} > $out`;
  const derivation = {
    outputs: new Map([['out', { path, hashAlgorithm: '', hash: '' }]]),
    ...{ inputSources: [], platform: 'x86_64-linux', builder: '/bin/sh', args: ['-c', script] },
    env: new Map([['out', path]]),
  };
  const drvPath = storePath(`${name}.drv`);
  const result = await client.exchange(async (channel) => {
    await channel.write(encodeBuildDerivation({ drvPath, derivation, mode: 'normal' }));
    for (;;) {
      const frame = await channel.run(decodeStderrFrame());
      if (frame.kind === 'error') throw new Error(frame.error.message);
      if (frame.kind === 'last') return await channel.run(decodeBuildDerivationResponse(client.version));
    }
  });
  expect(result.status).toBe('Built');
  return path;
}

describeE2e('an output that grows after it was registered', [], () => {
  test('is cut before it is complete, and nothing of it reaches another session', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1 } } });
    await using attacker = await connect(drover.stateDir);
    const grown = await build(attacker, 'grown');
    const [info] = await attacker.queryPathInfos([grown]);
    const [guest] = (await drover.status()).guests;
    const init = await guestInit(drover.stateDir, guest?.id ?? '');
    // Longer than registered, as through a descriptor that the build has passed on (CVE-2024-27297).
    const grow = `chmod u+w ${grown}; head -c 4000 /dev/zero >> ${grown}`;
    expect((await inGuest(init, grow)).exitCode).toBe(0);
    await attacker.channel.write(encodeNarFromPath(grown));
    let received = 0;
    for (;;) {
      const parts = await attacker.channel.readSome();
      if (parts.length === 0) break;
      for (const { length } of parts) received += length;
    }
    expect(received).toBeLessThan(8 + (info?.narSize ?? 0));
    await waitUntil('the end of the guest', async () =>
      (await drover.status()).guests.every(({ id }) => id !== guest?.id),
    );
    await using victim = await connect(drover.stateDir);
    const genuine = await build(victim, 'victim');
    const [facts] = await victim.queryPathInfos([genuine]);
    if (facts === undefined) throw new Error('the output is not valid');
    const parts: Uint8Array[] = [];
    for await (const part of victim.narFromPath(genuine, facts)) parts.push(part);
    expect(Buffer.concat(parts).toString('latin1')).toContain(CONTENTS);
  });
});
