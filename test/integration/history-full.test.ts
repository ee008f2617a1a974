import { execFileSync } from 'node:child_process';
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';

import { BuildHistory } from '../../src/history/history.js';
import { FakeClock } from '../support/fake-clock.js';
import { describeWith } from '../support/requirements.js';
import { fill, mountedDirectory, unmount } from '../support/small-disk.js';

const LIMITS = { keepMs: 3_600_000, maxBuilds: 100, maxBytes: 1024 ** 3, logs: 'all' } as const;
const DERIVATION = '/nix/store/00000000000000000000000000000000-hello-2.12.drv';
const BUILT = { result: 'Built', succeeded: true, error: null };

let dir: string;
let said: string[];
let history: BuildHistory;

async function open(): Promise<BuildHistory> {
  const log = pino({ level: 'info' }, { write: (line: string) => void said.push(line) });
  return await BuildHistory.open({ dir, clock: new FakeClock(), log, limits: LIMITS });
}

function begin(name: string): number {
  const client = { door: 'socket', domain: 'uid:0', name: 'root' };
  return history.begin({ derivation: DERIVATION, name, system: 'x86_64-linux', client });
}

/** Everything up to a few hundred bytes: so a record or a part of a log fits in part. */
async function fillDisk(): Promise<void> {
  await fill('for size in 4k 64 1; do dd if=/dev/zero of=$0/filler$size bs=$size; done', dir);
}

async function makeRoom(): Promise<void> {
  for (const size of ['4k', '64', '1']) await rm(join(dir, `filler${size}`), { force: true });
}

async function textOf(id: number): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of history.readLog(id)) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function lines(): Promise<unknown[]> {
  const text = await readFile(join(dir, 'builds-000001.jsonl'), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
}

describeWith('the history on a full disk', ['root'], () => {
  beforeEach(async () => {
    dir = await mountedDirectory('size=512k');
    said = [];
    history = await open();
  });
  afterEach(async () => {
    await history.close();
    await unmount(dir);
  });

  /** More than the last page of the file has room for. */
  const BUILDS = 30;
  const beginMany = async (): Promise<number[]> => {
    const ids = Array.from({ length: BUILDS }, (_, index) => begin(`began-${index}`));
    await history.finish(begin('begun after all of them'), BUILT);
    return ids;
  };

  test('writes the ends of builds once there is room, and no half line meanwhile', async () => {
    const ids = await beginMany();
    const [last = 0] = ids.slice(-1);
    await fillDisk();
    for (const id of ids) await history.finish(id, BUILT);
    expect((await lines()).length).toBeLessThan(2 * (BUILDS + 1));
    expect(said.filter((line) => line.includes('build history cannot be written'))).toHaveLength(1);
    expect(await history.get(last)).toMatchObject({ name: `began-${BUILDS - 1}`, result: 'Built' });
    expect(await history.list({ limit: 1000 })).toHaveLength(BUILDS + 1);
    await history.amend(last, () => ({ relayedBytes: 7 }));

    await makeRoom();
    await history.finish(begin('after'), BUILT);
    await history.close();
    expect(said.filter((line) => line.includes('build history is being written again'))).toHaveLength(1);
    history = await open();
    const records = await history.list({ limit: 1000 });
    expect(records.map(({ result }) => result)).toEqual(Array<string>(BUILDS + 2).fill('Built'));
    expect(records.find(({ id }) => id === last)).toMatchObject({ relayedBytes: 7 });
  });

  test('writes the ends of builds when it is closed, if there is room by then', async () => {
    const ids = await beginMany();
    await fillDisk();
    for (const id of ids) await history.finish(id, BUILT);
    await makeRoom();
    await history.close();
    history = await open();
    const results = (await history.list({ limit: 1000 })).map(({ result }) => result);
    expect(results).toEqual(Array<string>(BUILDS + 1).fill('Built'));
  });

  test('keeps an amendment that waits when there is another one', async () => {
    const id = begin('amended');
    await history.finish(id, BUILT);
    await fillDisk();
    // The page that the last record is in may take some more.
    for (let at = 0; at < 20; at++) await history.amend(id, () => ({ relayedBytes: at }));
    await history.amend(id, () => ({ generation: 'later' }));
    await makeRoom();
    await history.close();
    history = await open();
    expect(await history.get(id)).toMatchObject({ relayedBytes: 19, generation: 'later' });
  });

  test('says how many records are lost if there is none', async () => {
    const ids = await beginMany();
    await fillDisk();
    for (const id of ids) await history.finish(id, BUILT);
    await history.close();
    const lost = said.find((line) => line.includes('records of builds are lost')) ?? '{}';
    await makeRoom();
    history = await open();
    const cut = (await history.list({ limit: 1000 })).filter(({ result }) => result === 'Interrupted');
    expect(cut.length).toBeGreaterThan(0);
    expect(JSON.parse(lost)).toMatchObject({ builds: cut.length });
    expect(cut[0]?.error).toBe('Drover ended before it recorded how the build ended');
  });

  test('a log goes on once there is room, and says what it lacks', async () => {
    const id = begin('chatty');
    await history.addLine(id, 'at first');
    expect(await textOf(id)).toBe('at first\n');
    const { size } = await stat(join(dir, 'logs', `b${id}.gz`));
    await fillDisk();
    // The last page of the file takes some of it.
    const noise = execFileSync('head', ['-c', '6000', '/dev/urandom']).toString('base64');
    await history.addLine(id, noise);
    expect(await textOf(id)).toBe('at first\n');
    expect((await stat(join(dir, 'logs', `b${id}.gz`))).size).toBe(size);
    await makeRoom();
    await history.addLine(id, 'at last');
    const note = `drover: ${noise.length + 1} bytes of this log are missing here: ENOSPC: no space left on device, write`;
    expect(await textOf(id)).toBe(`at first\n\n${note}\nat last\n`);
    await history.finish(id, BUILT);
    expect((await history.get(id))?.log).toMatchObject({ lines: 3 });
  });

  test('a log whose end is missing says so', async () => {
    const id = begin('cut');
    await history.addLine(id, 'at first');
    await textOf(id);
    await fillDisk();
    await history.addLine(id, execFileSync('head', ['-c', '6000', '/dev/urandom']).toString('base64'));
    await textOf(id);
    await makeRoom();
    await history.finish(id, BUILT);
    expect(await textOf(id)).toMatch(/^at first\n\ndrover: \d+ bytes of this log are missing here: ENOSPC/);
  });
});
