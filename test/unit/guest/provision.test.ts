import { describe, expect, test } from '@jest/globals';

import { CaseHackDetector } from '../../../src/guest/case-hack.js';
import type { Listings } from '../../../src/guest/stored-listings.js';
import { lookUpInputs, type Inputs } from '../../../src/guest/provision.js';
import { WorkerClient } from '../../../src/daemon/worker-client.js';
import { errorCode } from '../../../src/lib/errors.js';
import { encodeErrorFrame } from '../../../src/protocol/stderr.js';
import { decodeNarFromPath, Op } from '../../../src/protocol/operations.js';
import type { ValidPathInfo } from '../../../src/protocol/path-info.js';
import type { StorePath } from '../../../src/protocol/store-path.js';
import { BenchGuest, registeredPaths } from '../../support/front-bench.js';
import { NAR, narFacts, narOf } from '../../support/nar.js';
import { LAST, pathInfo, ScriptedDaemon, storePath, VERSION } from '../../support/scripted-daemon.js';

const BIG = narOf(Buffer.alloc(4 * 1024 * 1024));

class Bench {
  readonly hostDaemon = new ScriptedDaemon();
  readonly guest: BenchGuest;
  hacked = new Set<string>();
  /** Others consist of one file. */
  readonly files = new Map<StorePath, number>();

  constructor(rememberedFiles?: number, listings?: Listings) {
    this.guest = new BenchGuest('g1', rememberedFiles, listings);
  }

  add(name: string, more: Partial<ValidPathInfo> = {}): StorePath {
    const path = storePath(name);
    this.hostDaemon.paths.set(path, { info: pathInfo(path, more), nar: NAR });
    return path;
  }

  async connect(): Promise<{ host: WorkerClient; daemon: WorkerClient }> {
    return {
      host: await WorkerClient.connect(this.hostDaemon.connect(), VERSION, 'The host'),
      daemon: await WorkerClient.connect(this.guest.daemon.connect(), VERSION, 'The guest'),
    };
  }

  async lookUp(host: WorkerClient, roots: readonly StorePath[]): Promise<Inputs> {
    const inputs = await lookUpInputs(host, roots, new CaseHackDetector());
    return {
      ...inputs,
      unshareable: new Set([...inputs.infos.keys()].filter((path) => this.hacked.has(path))),
      files: new Map([...inputs.files, ...this.files]),
    };
  }

  async provision(...roots: StorePath[]): ReturnType<BenchGuest['store']['provision']> {
    const { host, daemon } = await this.connect();
    return await this.guest.store.provision(await this.lookUp(host, roots), host, daemon);
  }

  /** Paths in the order of each registration. */
  get registered(): string[][] {
    return this.guest.registrations.map(registeredPaths);
  }
}

describe('provisioning', () => {
  test('registers a closure at once, references first, and each path once', async () => {
    const bench = new Bench();
    const a = bench.add('a');
    const b = bench.add('b', { references: [a] });
    const self = storePath('self');
    bench.hostDaemon.paths.set(self, { info: pathInfo(self, { references: [self, b] }), nar: NAR });
    expect(await bench.provision(self)).toMatchObject({ sharedPaths: 3, copiedPaths: 0 });
    expect(await bench.provision(self, b)).toMatchObject({ sharedPaths: 0, copiedPaths: 0 });
    expect(bench.registered).toEqual([[a, b, self]]);
    expect(bench.guest.store.sharesAnyOf([storePath('other'), b])).toBe(true);
    // Pinned before it is asked about: what was valid a moment ago may be collected at any time.
    const pinned = bench.hostDaemon.asked.indexOf(Op.AddTempRoot);
    expect(pinned).toBeLessThan(bench.hostDaemon.asked.indexOf(Op.QueryPathInfo));
    expect(bench.hostDaemon.asked.filter((op) => op === Op.AddTempRoot)).toHaveLength(6);
  });

  test('copies what the guest does not see, and shares the rest', async () => {
    const bench = new Bench();
    const a = bench.add('a');
    const b = bench.add('b', { references: [a] });
    const c = bench.add('c', { references: [b] });
    bench.guest.invisible.add(b);
    expect(await bench.provision(c)).toEqual({
      sharedPaths: 2,
      sharedBytes: 224,
      copiedPaths: 1,
      copiedBytes: 112,
    });
    expect(bench.registered).toEqual([[a], [c]]);
    expect([...bench.guest.daemon.paths.keys()]).toEqual([b]);
    expect(bench.guest.store.sharesAnyOf([b])).toBe(false);
  });

  test('copies what may not be shared, after what it refers to', async () => {
    const bench = new Bench();
    const a = bench.add('a');
    const hacked = bench.add('hacked', { references: [a] });
    bench.hacked.add(hacked);
    expect(await bench.provision(hacked)).toMatchObject({ sharedPaths: 1, copiedPaths: 1 });
    expect(bench.guest.daemon.paths.get(hacked)?.nar).toEqual(NAR);
  });

  test('sends listings along to an exact store, and copies no path for its names', async () => {
    const listings = {
      of: (infos: readonly ValidPathInfo[]) =>
        Promise.resolve(infos.map(({ path }) => `listing of ${path}\n`).join('')),
    };
    const bench = new Bench(undefined, listings);
    const a = bench.add('a');
    const hacked = bench.add('hacked', { references: [a] });
    bench.hacked.add(hacked);
    expect(await bench.provision(hacked)).toMatchObject({ sharedPaths: 2, copiedPaths: 0 });
    const [text = ''] = bench.guest.registrations;
    expect(text.startsWith(`listing of ${a}\nlisting of ${hacked}\nregistration\n--\n--p ${a}\n`)).toBe(true);
  });

  test("drops the guest's lookup cache before it becomes too large", async () => {
    const bench = new Bench(100);
    const [a, b, c, d] = [bench.add('a'), bench.add('b'), bench.add('c'), bench.add('d')];
    bench.files.set(a, 60).set(b, 40).set(c, 80).set(d, 20);
    for (const path of [a, b, a, c, d, a]) await bench.provision(path);
    // Only then is nothing registered, and it forgets.
    expect(bench.registered).toEqual([[a], [b], [], [c], [d], []]);
    expect(bench.guest.forgets).toEqual([false, false, true, false, false, true]);
  });

  test('registers a path again that was deleted on the host and has come back', async () => {
    const bench = new Bench();
    const a = bench.add('a');
    await bench.provision(a);
    bench.hostDaemon.paths.set(a, { info: pathInfo(a, { registrationTime: 99 }), nar: NAR });
    expect(await bench.provision(a)).toMatchObject({ sharedPaths: 1 });
    expect(bench.registered).toEqual([[a], [a]]);
  });

  test('leaves paths of the guest alone, and rejects other contents', async () => {
    const bench = new Bench();
    const [same, other] = [bench.add('same'), bench.add('other')];
    bench.guest.daemon.paths.set(same, { info: pathInfo(same, { registrationTime: 5 }), nar: NAR });
    bench.guest.daemon.paths.set(other, { info: pathInfo(other, { narHash: 'b'.repeat(64) }), nar: NAR });
    expect(await bench.provision(same)).toMatchObject({ sharedPaths: 0, copiedPaths: 0 });
    await expect(bench.provision(other)).rejects.toMatchObject({ code: 'GUEST_CONFLICT' });
    const { host, daemon } = await bench.connect();
    const inputs = await bench.lookUp(host, [other]);
    expect(await bench.guest.store.provision(inputs, host, daemon, { onConflict: 'keep' })).toMatchObject({
      sharedPaths: 0,
    });
  });

  test('names the path that the host has lost, and what to do', async () => {
    const bench = new Bench();
    const gone = bench.add('gone');
    bench.guest.invisible.add(gone);
    bench.hostDaemon.handlers.set(Op.NarFromPath, async (daemon) => {
      await daemon.run(decodeNarFromPath(VERSION));
      await daemon.write(encodeErrorFrame(`getting status of '${gone}': No such file or directory`));
    });
    await expect(bench.provision(gone)).rejects.toMatchObject({
      code: 'PROVISION_FAILED',
      message: `${gone} is valid on the host, but it is not on its disk`,
      hint: expect.stringContaining('nix-store --verify --check-contents --repair'),
    });
  });

  test('skips a caller that has gone while waiting, and continues with the next', async () => {
    const bench = new Bench();
    const [a, b] = [bench.add('a'), bench.add('b')];
    let goOn = (): void => undefined;
    bench.guest.beforeRegister = () =>
      new Promise((resolve) => {
        goOn = resolve;
      });
    const first = bench.provision(a);
    const { host, daemon } = await bench.connect();
    const leaving = new AbortController();
    const second = bench.guest.store.provision(await bench.lookUp(host, [b]), host, daemon, {
      signal: leaving.signal,
    });
    const failed = second.then(
      () => undefined,
      (error: unknown) => errorCode(error) ?? 'aborted',
    );
    while (bench.guest.daemon.asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
    leaving.abort();
    bench.guest.beforeRegister = () => Promise.resolve();
    goOn();
    await first;
    expect(await failed).toBeDefined();
    expect(await bench.provision(b)).toMatchObject({ sharedPaths: 1 });
    expect(bench.registered).toEqual([[a], [b]]);
  });

  test('a copy that the guest breaks off leaves the host connection usable, and its pins alive', async () => {
    const bench = new Bench();
    const big = bench.add('big', narFacts(BIG));
    bench.hacked.add(big);
    bench.hostDaemon.handlers.set(Op.NarFromPath, async (daemon) => {
      await daemon.run(decodeNarFromPath(VERSION));
      await daemon.write(Buffer.concat([LAST, BIG]));
    });
    bench.guest.daemon.handlers.set(Op.AddToStoreNar, async (daemon) => {
      await daemon.readSome();
      daemon.destroy();
    });
    const { host, daemon } = await bench.connect();
    const inputs = await bench.lookUp(host, [big]);
    await expect(bench.guest.store.provision(inputs, host, daemon)).rejects.toMatchObject({
      code: 'PROVISION_FAILED',
    });
    expect(await host.queryValidPaths([big])).toEqual([big]);
    expect(bench.hostDaemon.connections).toBe(1);
  });
});
