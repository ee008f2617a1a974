import { expect, test } from '@jest/globals';

import { IdleConnections } from '../../../src/daemon/idle-connections.js';
import { WorkerClient } from '../../../src/daemon/worker-client.js';
import { encodeSetOptions, Op } from '../../../src/protocol/operations.js';
import { encodePathInfoResponse } from '../../../src/protocol/responses.js';
import { encodeErrorFrame } from '../../../src/protocol/stderr.js';
import { decodeNarFromPath, decodeQueryPathInfo } from '../../../src/protocol/operations.js';
import { NAR, narFacts } from '../../support/nar.js';
import { LAST, pathInfo, ScriptedDaemon, storePath, VERSION } from '../../support/scripted-daemon.js';
import fc from '../../support/property.js';

const PATH = storePath('p');
const INFO = Buffer.concat([LAST, encodePathInfoResponse(pathInfo(PATH), VERSION)]);
const SETTINGS = encodeSetOptions({
  ...{ keepFailed: false, keepGoing: false, tryFallback: false, verbosity: 0, maxBuildJobs: 1 },
  ...{ maxSilentTime: 0, verboseBuild: false, buildCores: 0, useSubstitutes: false, overrides: new Map() },
});

/** How the daemon answers, and whether the exchange is complete then. */
interface Step {
  readonly op: 'info' | 'nar';
  readonly answer: Uint8Array;
  readonly complete: boolean;
}

const extra = fc.uint8Array({ minLength: 1, maxLength: 300 });
const whole = fc.constantFrom<Step>(
  { op: 'info', answer: INFO, complete: true },
  { op: 'info', answer: encodeErrorFrame('no'), complete: true },
  { op: 'nar', answer: Buffer.concat([LAST, NAR]), complete: true },
  { op: 'nar', answer: encodeErrorFrame('no'), complete: true },
);
/** More than the answer, less of it, or something else. */
const broken = fc.oneof(
  fc
    .tuple(whole, extra)
    .map(([step, more]) => ({ ...step, answer: Buffer.concat([step.answer, more]), complete: false })),
  fc
    .tuple(extra, whole)
    .map(([noise, step]) => ({ ...step, answer: Buffer.concat([noise, step.answer]), complete: false })),
  fc.nat({ max: NAR.length - 1 }).map((at): Step => {
    const nar = Buffer.from(NAR);
    nar[at] = (nar[at] ?? 0) ^ 1;
    return { op: 'nar', answer: Buffer.concat([LAST, nar]), complete: false };
  }),
);

/** Lets everything arrive that has been sent. */
async function arrived(client: WorkerClient, daemon: ScriptedDaemon): Promise<void> {
  const [peer] = daemon.open;
  if (peer === undefined) return;
  while (!client.gone.aborted && client.channel.receivedBytes < peer.sentBytes) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function perform({ op, answer }: Step, client: WorkerClient, daemon: ScriptedDaemon): Promise<boolean> {
  daemon.handlers.set(Op.QueryPathInfo, async (channel, version) => {
    await channel.run(decodeQueryPathInfo(version));
    await channel.write(answer);
  });
  daemon.handlers.set(Op.NarFromPath, async (channel, version) => {
    await channel.run(decodeNarFromPath(version));
    await channel.write(answer);
  });
  let done = false as boolean;
  const work = (async () => {
    if (op === 'info') await client.queryPathInfos([PATH]);
    else
      for await (const part of client.narFromPath(PATH, narFacts(NAR)))
        expect(part.length).toBeGreaterThan(0);
  })().finally(() => {
    done = true;
  });
  work.catch(() => undefined);
  await arrived(client, daemon);
  // An answer that claims to be longer than it is never ends: its client leaves.
  for (let turn = 0; turn < 20 && !done; turn++) await new Promise((resolve) => setImmediate(resolve));
  return done;
}

test('a connection is reusable only after complete exchanges, with not one byte too many, and only for its domain', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(whole, { maxLength: 4 }),
      fc.option(broken, { nil: undefined }),
      fc.record({
        settings: fc.boolean(),
        idleBytes: fc.option(extra, { nil: undefined }),
        other: fc.boolean(),
      }),
      async (steps, last, { settings, idleBytes, other }) => {
        const daemon = new ScriptedDaemon();
        const client = await WorkerClient.connect(daemon.connect(), VERSION, 'The daemon');
        let clean = true;
        if (settings) {
          await client.setOptions([SETTINGS]);
          clean = false;
        }
        for (const step of last === undefined ? steps : [...steps, last]) {
          clean = (await perform(step, client, daemon)) && step.complete && clean;
        }
        const idle = new IdleConnections();
        idle.put(client, 'uid:1');
        if (idleBytes !== undefined) {
          const [peer] = daemon.open;
          await peer?.write(idleBytes);
          await arrived(client, daemon);
          clean = false;
        }
        const taken = idle.take(VERSION, other ? 'uid:2' : 'uid:1');
        expect(taken).toBe(clean && !other ? client : undefined);
        if (!clean) expect(client.gone.aborted).toBe(true);
        client.channel.destroy();
      },
    ),
    { numRuns: 300 },
  );
});

test('an unsolicited byte ends the connection before it becomes part of an answer', async () => {
  const daemon = new ScriptedDaemon();
  const client = await WorkerClient.connect(daemon.connect(), VERSION, 'The daemon');
  const [peer] = daemon.open;
  await peer?.write(INFO);
  await arrived(client, daemon);
  await expect(client.queryPathInfos([PATH])).rejects.toMatchObject({ code: 'PROTOCOL_MALFORMED' });
  expect(client.gone.aborted).toBe(true);
});
