import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';

import { decodeNixString } from '../../../src/protocol/nix-string.js';
import { BuildHistory, type HistoryLimits } from '../../../src/history/history.js';
import { FakeClock } from '../../support/fake-clock.js';
import { waitUntil } from '../../support/wait.js';

const LIMITS: HistoryLimits = { keepMs: 3_600_000, maxBuilds: 100, maxBytes: 1024 ** 3, logs: 'all' };
const DRV = '/nix/store/00000000000000000000000000000000-hello-2.12.drv';
const log = pino({ level: 'silent' });

let dir: string;
let clock: FakeClock;
let opened: BuildHistory[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'drover-history-'));
  clock = new FakeClock();
  opened = [];
});
afterEach(async () => {
  for (const history of opened) await history.close();
  await rm(dir, { recursive: true });
});

async function open(limits: Partial<HistoryLimits> = {}): Promise<BuildHistory> {
  const history = await BuildHistory.open({ dir, clock, log, limits: { ...LIMITS, ...limits } });
  opened.push(history);
  return history;
}

function begin(history: BuildHistory, name = 'hello-2.12'): number {
  const client = { door: 'socket', domain: 'uid:0', name: 'root' };
  return history.begin({ derivation: DRV, name, system: 'x86_64-linux', client });
}

async function build(history: BuildHistory, name?: string, succeeded = true): Promise<number> {
  const id = begin(history, name);
  await history.finish(id, { result: succeeded ? 'Built' : 'PermanentFailure', succeeded, error: null });
  return id;
}

async function bytesOf(history: BuildHistory, id: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of history.readLog(id)) parts.push(part);
  return Buffer.concat(parts);
}

async function textOf(history: BuildHistory, id: number): Promise<string> {
  return (await bytesOf(history, id)).toString();
}

describe('BuildHistory', () => {
  test('reads back every field after a restart and continues the ids', async () => {
    const history = await open();
    const id = begin(history);
    history.update(id, ({ times }) => ({ guest: 'g7', times: { ...times, started: 5 } }));
    void history.addLine(id, 'one');
    void history.addLine(id, 'two');
    await history.finish(id, { result: 'PermanentFailure', succeeded: false, error: 'builder failed' });
    const before = await history.get(id);
    await history.close();

    const again = await open();
    expect(await again.get(id)).toEqual(before);
    expect(before).toMatchObject({ guest: 'g7', result: 'PermanentFailure', error: 'builder failed' });
    expect(before?.log).toMatchObject({ lines: 2, bytes: 8 });
    expect(await textOf(again, id)).toBe('one\ntwo\n');
    expect(begin(again)).toBe(id + 1);
    await again.close();
  });

  test('reports a build that the supervisor did not outlive as interrupted, with its log so far', async () => {
    const history = await open();
    const id = begin(history);
    await history.addLine(id, 'half a log');
    await history.close();
    const again = await open();
    expect(await again.get(id)).toMatchObject({ result: 'Interrupted', succeeded: false });
    expect(await textOf(again, id)).toBe('half a log\n');
    await again.close();
  });

  test('skips a line that was cut off at any byte, and keeps every other one', async () => {
    const history = await open();
    await build(history, 'first');
    await build(history, 'second');
    await history.close();
    const file = join(dir, 'builds-000001.jsonl');
    const { size } = await stat(file);
    for (const cut of [1, 2, 50, 200]) {
      await truncate(file, size - cut);
      const again = await open();
      const id = await build(again, 'third');
      await again.close();
      const last = await open();
      const names = (await last.list()).map(({ name }) => name);
      expect(names).toEqual(['third', 'second', 'first']);
      expect((await last.get(id))?.result).toBe('Built');
      await last.close();
      await truncate(file, size);
    }
  });

  test('opens a file of random bytes', async () => {
    await writeFile(
      join(dir, 'builds-000001.jsonl'),
      Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 256)),
    );
    const history = await open();
    const id = await build(history);
    await history.close();
    const again = await open();
    expect((await again.list()).map((record) => record.id)).toEqual([id]);
    await again.close();
  });

  test('keeps no more than maxBuilds, and removes the logs of forgotten builds', async () => {
    const history = await open({ maxBuilds: 3 });
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      const id = begin(history, name);
      await history.addLine(id, `log of ${name}`.repeat(300));
      await history.finish(id, { result: 'Built', succeeded: true, error: null });
    }
    expect((await history.list()).map(({ name }) => name)).toEqual(['e', 'd', 'c']);
    expect(await history.get(1)).toBeUndefined();
    expect(await readdir(join(dir, 'logs'))).toHaveLength(3);
    await history.close();
  });

  test('forgets builds older than keep', async () => {
    const history = await open();
    await build(history, 'old');
    await clock.advance(LIMITS.keepMs + 1);
    await build(history, 'new');
    expect((await history.list()).map(({ name }) => name)).toEqual(['new']);
    await history.close();
  });

  test('forgets old builds behind those of a clock that was ahead', async () => {
    const history = await open();
    clock.setWall(LIMITS.keepMs * 100);
    await build(history, 'from the future');
    clock.setWall(-LIMITS.keepMs * 100);
    await build(history, 'old');
    await clock.advance(LIMITS.keepMs + 1);
    await build(history, 'new');
    expect((await history.list()).map(({ name }) => name)).toEqual(['new', 'from the future']);
  });

  test('expects nothing of a build during which the clock was set back', async () => {
    const history = await open();
    const id = begin(history);
    history.update(id, ({ times }) => ({ times: { ...times, started: clock.wallNow() } }));
    clock.setWall(-3_600_000);
    await history.finish(id, { result: 'Built', succeeded: true, error: null });
    expect(history.expectedMs('hello-2.12')).toBeUndefined();
  });

  test('keeps no log of a build whose record cannot be written', async () => {
    const history = await open();
    const id = begin(history);
    void history.addLine(id, 'one');
    await history.close();
    await rm(join(dir, 'builds-000001.jsonl'));
    await mkdir(join(dir, 'builds-000001.jsonl'));
    await history.finish(id, { result: 'Built', succeeded: true, error: null });
    expect(await readdir(join(dir, 'logs'))).toEqual([]);
  });

  test('lists more builds than there are descriptors', async () => {
    const history = await open({ maxBuilds: 10_000 });
    await Promise.all(Array.from({ length: 2_000 }, () => build(history)));
    let most = 0;
    const counting = setInterval(() => {
      most = Math.max(most, readdirSync('/proc/self/fd').length);
    });
    const records = await history.list({ limit: 10_000 });
    clearInterval(counting);
    expect(records).toHaveLength(2_000);
    expect(most).toBeLessThan(500);
  });

  test('stays within maxBytes plus one segment', async () => {
    const maxBytes = 64 * 1024;
    const history = await open({ maxBytes });
    for (let i = 0; i < 40; i++) {
      const id = begin(history);
      const noise = Array.from({ length: 4_000 }, (_, j) => ((i * 31 + j * 17) ** 2 % 997).toString(36));
      await history.addLine(id, noise.join(''));
      await history.finish(id, { result: 'Built', succeeded: true, error: null });
    }
    const files = await readdir(join(dir, 'logs'));
    const sizes = await Promise.all(files.map(async (name) => (await stat(join(dir, 'logs', name))).size));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(maxBytes);
    expect(files.length).toBeGreaterThan(0);
    await history.close();
  });

  test('keeps logs of failed builds only, if told so', async () => {
    const history = await open({ logs: 'failed' });
    for (const succeeded of [true, false]) {
      const id = begin(history);
      await history.addLine(id, 'text'.repeat(1_000));
      await history.finish(id, { result: succeeded ? 'Built' : 'PermanentFailure', succeeded, error: null });
    }
    expect(await readdir(join(dir, 'logs'))).toEqual(['b2.gz']);
    expect((await history.get(1))?.log).toMatchObject({ lines: 1, bytes: 4_001, storedBytes: 0 });
    expect(await textOf(history, 1)).toBe('');
    await history.close();
  });

  test('gives a log back without what a crash has cut off', async () => {
    const history = await open();
    const id = begin(history);
    await history.addLine(id, 'kept');
    await history.close();
    await appendFile(join(dir, 'logs', `b${id}.gz`), Buffer.from([0x1f, 0x8b, 0x08, 0, 0]));
    expect(await textOf(history, id)).toBe('kept\n');
  });

  test('asks the source of a large log to wait until the disk has caught up', async () => {
    const history = await open();
    const id = begin(history);
    const line = 'x'.repeat(1023);
    let waits = 0;
    for (let i = 0; i < 4_096; i++) {
      const wait = history.addLine(id, line);
      if (wait !== undefined) waits += 1;
      await wait;
    }
    expect(waits).toBeGreaterThan(0);
    expect((await textOf(history, id)).length).toBe(4_096 * 1024);
    await history.close();
  });

  test('works without a directory, and logs that once', async () => {
    const warnings: string[] = [];
    const loud = pino({ level: 'warn' }, { write: (line: string) => void warnings.push(line) });
    const history = await BuildHistory.open({ dir, clock, log: loud, limits: LIMITS });
    opened.push(history);
    await rm(dir, { recursive: true });
    await build(history);
    await build(history);
    expect(warnings).toHaveLength(1);
    await open();
    const id = await build(history);
    expect((await history.get(id))?.result).toBe('Built');
  });

  test('expects a build to take the median of its last successes', async () => {
    const history = await open();
    for (const [durationMs, succeeded] of [
      [10, true],
      [50, true],
      [20, true],
      [9_000, false],
    ] as const) {
      const id = begin(history);
      history.update(id, ({ times }) => ({ times: { ...times, started: clock.wallNow() } }));
      await clock.advance(durationMs);
      await history.finish(id, { result: 'x', succeeded, error: null });
    }
    expect(history.expectedMs('hello-2.12')).toBe(20);
    expect(history.expectedMs('other')).toBeUndefined();
  });

  test('lists failed builds, those since a time, and those whose name contains a word', async () => {
    const history = await open();
    await build(history, 'zlib-1.3');
    await build(history, 'curl-8', false);
    await clock.advance(1_000);
    const since = clock.wallNow();
    await build(history, 'curl-9');
    const names = async (query: Parameters<BuildHistory['list']>[0]): Promise<string[]> =>
      (await history.list(query)).map(({ name }) => name);
    expect(await names({ failed: true })).toEqual(['curl-8']);
    expect(await names({ since })).toEqual(['curl-9']);
    expect(await names({ names: ['curl'] })).toEqual(['curl-9', 'curl-8']);
    expect(history.nearest(99)).toEqual(['b3', 'b2', 'b1']);
  });

  test('records after the end that the outputs were fetched', async () => {
    const history = await open();
    const id = await build(history);
    await history.amend(id, ({ times }) => ({ relayedBytes: 5, times: { ...times, fetched: 7 } }));
    await history.close();
    const again = await open();
    expect(await again.get(id)).toMatchObject({ relayedBytes: 5, times: { fetched: 7 } });
    expect(await again.list()).toHaveLength(1);
    await again.close();
  });

  test('counts an amendment that comes while the end is being written', async () => {
    const history = await open();
    const id = begin(history);
    const finished = history.finish(id, { result: 'Built', succeeded: true, error: null });
    await history.amend(id, () => ({ relayedBytes: 7 }));
    await finished;
    expect(await history.get(id)).toMatchObject({ result: 'Built', relayedBytes: 7 });
    await history.close();
  });

  test('remembers durations of a bounded number of names', async () => {
    const history = await open({ maxBuilds: 10 });
    for (let i = 0; i < 4_200; i++) {
      const id = begin(history, `name-${i}`);
      history.update(id, ({ times }) => ({ times: { ...times, started: clock.wallNow() } }));
      void history.finish(id, { result: 'Built', succeeded: true, error: null });
    }
    await history.close();
    expect(history.expectedMs('name-0')).toBeUndefined();
    expect(history.expectedMs('name-4199')).toBe(0);
  });
});

describe('the log of a build', () => {
  /** A build that logs `text` and ends. */
  async function logged(history: BuildHistory, text: string): Promise<number> {
    const id = begin(history);
    await history.addLine(id, text);
    await history.finish(id, { result: 'Built', succeeded: true, error: null });
    return id;
  }
  const LINE = 'x'.repeat(2048);

  test.each([1, 1_000])(
    'has the bytes that the build wrote, also those that are not UTF-8 (%d times)',
    async (times) => {
      const bytes = Buffer.concat(
        Array.from({ length: times }, () =>
          Buffer.from('caff e9 80 c3a9 f09f9880 00'.replaceAll(' ', ''), 'hex'),
        ),
      );
      const history = await open();
      const id = await logged(history, decodeNixString(bytes));
      await history.close();
      const again = await open();
      expect(await bytesOf(again, id)).toEqual(Buffer.concat([bytes, Buffer.from('\n')]));
      expect((await again.get(id))?.log.bytes).toBe(bytes.length + 1);
      await again.close();
    },
  );

  test('lies in the record if it is short, and in a file of its own if not', async () => {
    const history = await open();
    const hostile = `\u001b]0;${'\u0001'.repeat(2_000)}\u2028"`;
    const short = await logged(history, hostile);
    const long = await logged(history, LINE);
    await history.amend(short, () => ({ relayedBytes: 7 }));
    expect(await readdir(join(dir, 'logs'))).toEqual([`b${long}.gz`]);
    expect((await history.get(short))?.log.storedBytes).toBe(0);
    expect(JSON.stringify(await history.list())).not.toContain('2028');
    await history.close();
    const again = await open();
    expect(await textOf(again, short)).toBe(`${hostile}\n`);
    expect(await textOf(again, long)).toBe(`${LINE}\n`);
    expect(await again.get(short)).toMatchObject({ relayedBytes: 7 });
    await again.amend(short, () => ({ relayedBytes: 8 }));
    expect(await textOf(again, short)).toBe(`${hostile}\n`);
    await again.close();
  });

  test('is whole for one who asks while its end is being written', async () => {
    const history = await open();
    const id = begin(history);
    await history.addLine(id, 'short');
    const finished = history.finish(id, { result: 'Built', succeeded: true, error: null });
    expect(await textOf(history, id)).toBe('short\n');
    await finished;
    await history.close();
  });

  test('goes on in its file if a part of it is there', async () => {
    const history = await open();
    const id = begin(history);
    await history.addLine(id, 'first');
    await clock.advance(1_000);
    await waitUntil('the file', async () => (await readdir(join(dir, 'logs'))).length > 0);
    await history.addLine(id, 'second');
    await history.finish(id, { result: 'Built', succeeded: true, error: null });
    expect(await textOf(history, id)).toBe('first\nsecond\n');
    await history.close();
  });

  test('is followed from its beginning to the end of the build', async () => {
    const history = await open();
    const id = begin(history);
    void history.addLine(id, 'before');
    const parts: string[] = [];
    const following = (async () => {
      for await (const part of history.readLog(id, { follow: true })) parts.push(part.toString());
    })();
    await waitUntil('the first line', () => parts.join('').includes('before'));
    void history.addLine(id, 'after');
    await history.finish(id, { result: 'Built', succeeded: true, error: null });
    await following;
    expect(parts.join('')).toBe('before\nafter\n');
    await history.close();
  });

  test('reaches a follower before the build ends', async () => {
    const history = await open();
    const id = begin(history);
    const follower = history.readLog(id, { follow: true });
    const first = follower.next();
    void history.addLine(id, 'alive');
    await waitUntil('the timer of the writer', () => clock.pendingTimers > 0);
    await clock.advance(100);
    expect((await first).value?.toString()).toBe('alive\n');
    await follower.return(undefined);
    await history.close();
  });

  test('is read to its end by a follower, though it is not kept', async () => {
    const history = await open({ logs: 'failed' });
    const id = begin(history);
    const follower = history.readLog(id, { follow: true });
    void history.addLine(id, 'one');
    const first = follower.next();
    void history.addLine(id, 'two');
    await history.finish(id, { result: 'Built', succeeded: true, error: null });
    let text = (await first).value?.toString() ?? '';
    for await (const part of follower) text += part.toString();
    expect(text).toBe('one\ntwo\n');
    await waitUntil('the removal', async () => (await readdir(join(dir, 'logs'))).length === 0);
    await history.close();
  });

  test('ends for a follower that goes', async () => {
    const history = await open();
    const id = begin(history);
    const gone = new AbortController();
    const rest = history.readLog(id, { follow: true, signal: gone.signal }).next();
    gone.abort();
    expect((await rest).done).toBe(true);
    await history.close();
  });

  test('takes a line of 50 MB in parts, and gives it back whole', async () => {
    const history = await open();
    const id = begin(history);
    const part = '\u{1f600}'.repeat(12_500);
    for (let left = 1_000; left > 0; left--) await history.addLine(id, part, left === 1);
    let bytes = 0;
    let replaced = false;
    for await (const read of history.readLog(id)) {
      bytes += read.length;
      replaced ||= read.includes('\ufffd');
    }
    expect({ bytes, replaced }).toEqual({ bytes: 50_000_001, replaced: false });
    expect((await history.get(id))?.log).toMatchObject({ lines: 1, bytes: 50_000_001 });
    await history.close();
  });

  test('ends with a note where it takes more than a quarter of maxBytes', async () => {
    const history = await open({ maxBytes: 256 * 1024 });
    const id = begin(history);
    for (let i = 0; i < 400; i++) await history.addLine(id, randomBytes(1024).toString('base64'));
    await history.finish(id, { result: 'Built', succeeded: true, error: null });
    expect(await textOf(history, id)).toMatch(
      /\ndrover: the rest of this log was not kept; see history.maxBytes\n$/,
    );
    const storedBytes = (await history.get(id))?.log.storedBytes ?? 0;
    expect(storedBytes).toBeGreaterThan(64 * 1024);
    expect(storedBytes).toBeLessThan(192 * 1024);
    await history.close();
  });
});
