import { describe, expect, test } from '@jest/globals';

import { WorkerClient } from '../../../src/daemon/worker-client.js';
import { decodeNarFromPath, Op } from '../../../src/protocol/operations.js';
import type { StorePath } from '../../../src/protocol/store-path.js';
import { deferred } from '../../support/deferred.js';
import { settled } from '../../support/fake-clock.js';
import { narFacts, narOf } from '../../support/nar.js';
import { LAST, pathInfo, ScriptedDaemon, storePath, VERSION } from '../../support/scripted-daemon.js';

async function connected(): Promise<{ daemon: ScriptedDaemon; client: WorkerClient }> {
  const daemon = new ScriptedDaemon();
  return { daemon, client: await WorkerClient.connect(daemon.connect(), VERSION, 'The daemon') };
}

describe('a client of a nix-daemon', () => {
  test('asks about thousands of paths over one connection, and keeps the answers in order', async () => {
    const { daemon, client } = await connected();
    const paths = Array.from({ length: 2_000 }, (_, i) => storePath(`p${i}`));
    for (const path of paths.filter((_, i) => i % 3 === 0)) {
      daemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(0) });
    }
    const [infos, valid] = await Promise.all([client.queryPathInfos(paths), client.queryValidPaths(paths)]);
    expect(infos.map((info) => info !== undefined)).toEqual(paths.map((_, i) => i % 3 === 0));
    expect(valid).toHaveLength(667);
  });

  test('stays in step with the daemon after one of many requests failed', async () => {
    const { daemon, client } = await connected();
    const drvs = Array.from({ length: 5 }, (_, i) => storePath(`d${i}.drv`));
    for (const drv of drvs.filter((_, i) => i !== 2)) daemon.outputs.set(drv, new Map<string, StorePath>());
    await expect(client.queryDerivationOutputs(drvs)).rejects.toThrow(`no such derivation: ${drvs[2] ?? ''}`);
    const path = storePath('p');
    daemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(0) });
    expect(await client.queryValidPaths([path])).toEqual([path]);
  });

  test('stays in step with the daemon after a NAR was abandoned', async () => {
    const { daemon, client } = await connected();
    const path = storePath('p');
    const nar = narOf(Buffer.alloc(3_000_000, 1));
    daemon.paths.set(path, { info: pathInfo(path), nar });
    for await (const chunk of client.narFromPath(path, narFacts(nar))) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(await client.queryValidPaths([path])).toEqual([path]);
  });

  test('sends no other request while a NAR is in flight', async () => {
    const { daemon, client } = await connected();
    const path = storePath('p');
    const nar = narOf(Buffer.alloc(3_000_000, 1));
    daemon.paths.set(path, { info: pathInfo(path), nar });
    const asked = deferred<undefined>();
    let bytesSent: number | undefined;
    daemon.handlers.set(Op.NarFromPath, async (channel, version) => {
      await channel.run(decodeNarFromPath(version));
      await channel.write(Buffer.concat([LAST, nar.subarray(0, nar.length / 2)]));
      await asked.promise;
      await settled();
      bytesSent = channel.unreadBytes;
      await channel.write(nar.subarray(nar.length / 2));
    });
    const parts: Uint8Array[] = [];
    let valid: Promise<StorePath[]> | undefined;
    for await (const chunk of client.narFromPath(path, narFacts(nar))) {
      valid ??= client.queryValidPaths([path]);
      asked.resolve(undefined);
      parts.push(chunk);
    }
    expect(bytesSent).toBe(0);
    expect(Buffer.concat(parts).equals(nar)).toBe(true);
    expect(await valid).toEqual([path]);
  });

  test('distinguishes a truncated NAR from a complete one', async () => {
    const { daemon, client } = await connected();
    const path = storePath('p');
    const nar = narOf(Buffer.alloc(100));
    daemon.paths.set(path, { info: pathInfo(path), nar: nar.subarray(0, 100) });
    const reading = (async () => {
      for await (const chunk of client.narFromPath(path, narFacts(nar))) {
        expect(chunk.length).toBeGreaterThan(0);
        setImmediate(() => {
          daemon.die();
        });
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: 'NAR_TRUNCATED' });
  });
});
