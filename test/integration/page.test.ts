import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request, type IncomingMessage, type OutgoingHttpHeaders, type RequestListener } from 'node:http';
import { connect, type Socket } from 'node:net';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import type { Status } from '../../src/control/api.js';
import { Operator } from '../../src/control/operator.js';
import { RecentEvents } from '../../src/control/recent-events.js';
import { BuildHistory } from '../../src/history/history.js';
import { systemClock } from '../../src/lib/clock.js';
import { serveMetrics, type MetricsServer } from '../../src/metrics/http.js';
import { loadAssets } from '../../src/page/assets.js';
import { MAX_PAGE_STREAMS, WebPage } from '../../src/page/page.js';
import { deferred } from '../support/deferred.js';
import { SILENT } from '../support/front-bench.js';
import { HOSTILE, statusWith } from '../support/page.js';
import { waitUntil } from '../support/wait.js';

const LIMITS = { keepMs: 3_600_000, maxBuilds: 1_000, maxBytes: 1024 ** 3, logs: 'all' } as const;
const CLIENT = { door: 'socket', domain: 'uid:0', name: HOSTILE };

let dir: string;
let history: BuildHistory | undefined;
let events: RecentEvents;
let status: Status;
let server: MetricsServer;
let sockets: Socket[];
let answersEnded: number;

beforeEach(async () => {
  dir = await mkdtemp('/tmp/page-');
  history = await BuildHistory.open({ dir, clock: systemClock, log: SILENT, limits: LIMITS });
  events = new RecentEvents(systemClock);
  status = statusWith();
  sockets = [];
  answersEnded = 0;
  await serve();
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await server.close();
  await history?.close();
  await rm(dir, { recursive: true });
});

async function serve(): Promise<void> {
  const consoleLog = join(dir, 'console');
  await writeFile(consoleLog, `booting ${HOSTILE}\n`);
  const operator = new Operator({
    front: { builds: [], cancel: () => false },
    runs: { open: never },
    vms: { open: never },
    pool: {
      snapshot: () => ({ guests: [{ id: 'g1', consoleLog }], programs: [] }) as never,
      ...{
        pause: never,
        resume: never,
        drainGuest: never,
        bootGuest: never,
        enterGuest: never,
        enterBuild: never,
        keptBuilds: [],
      },
    },
    ...{ history, events, consoleLogs: dir, status: () => status },
  });
  const page = new WebPage({
    ...{ operator, hostNames: ['builder.example.org'], assets: await loadAssets() },
    ...{ clock: systemClock, log: SILENT },
  });
  const answer: RequestListener = (request, response) => {
    response.once('close', () => (answersEnded += 1));
    page.answer(request, response);
  };
  server = await serveMetrics({
    ...{ host: '127.0.0.1', port: 0, log: SILENT, unhealthy: () => undefined },
    metrics: { contentType: 'text/plain', metrics: () => Promise.resolve('up 1\n') },
    page: { answer, maxStreams: MAX_PAGE_STREAMS },
  });
}

function never(): never {
  throw new Error('a page has changed something');
}

async function ask(
  path: string,
  { method = 'GET', headers = {} }: { method?: string; headers?: OutgoingHttpHeaders } = {},
): Promise<IncomingMessage & { body: string }> {
  const asked = request({ host: '127.0.0.1', port: server.port, path, method, headers, agent: false });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return Object.assign(response, { body: await text(response) });
}

/** Opens a stream of events. @returns what has come so far */
async function follow(path: string): Promise<{ readonly socket: Socket; text: string }> {
  const socket = connect(server.port, '127.0.0.1');
  sockets.push(socket);
  const stream = { socket, text: '' };
  socket.setEncoding('utf8').on('data', (chunk: string) => (stream.text += chunk));
  socket.on('error', () => undefined);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await waitUntil('the answer', () => stream.text.includes('\r\n\r\n'));
  return stream;
}

/** The server notices a moment after a reader has left that it has. */
async function followOnceThereIsRoom(path: string): Promise<void> {
  await waitUntil('room', async () => {
    const { socket, text } = await follow(path);
    socket.destroy();
    return text.includes('200 OK');
  });
}

function begin(name: string): number {
  const derivation = `/nix/store/${'0'.repeat(32)}-${name}.drv`;
  return history?.begin({ derivation, name, system: 'x86_64-linux', client: CLIENT }) ?? 0;
}

async function build(name: string, log: string, succeeded = true): Promise<string> {
  const id = begin(name);
  await history?.addLine(id, log);
  const result = succeeded ? 'Built' : 'MiscFailure';
  await history?.finish(id, { result, succeeded, error: succeeded ? null : HOSTILE });
  return `b${id}`;
}

describe('the pages', () => {
  test('are complete documents without a script in them, under a strict policy', async () => {
    const id = await build(HOSTILE, HOSTILE, false);
    for (const path of [
      '/',
      '/history',
      `/builds/${id}`,
      '/guests/g1',
      `/history?name=${encodeURIComponent(HOSTILE)}`,
    ]) {
      const { statusCode, headers, body } = await ask(path);
      expect({ path, statusCode }).toEqual({ path, statusCode: 200 });
      expect(headers['content-type']).toBe('text/html; charset=utf-8');
      expect(headers['content-security-policy']).toMatch(
        /^default-src 'none'; script-src 'self'; style-src 'self'; /,
      );
      expect(headers['content-security-policy']).not.toContain('unsafe');
      expect(headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
      });
      expect(body).toMatch(/^<!doctype html>[^]*<\/html>\s*$/);
      expect(body.match(/<script[^>]*>/g)).toEqual(['<script src="/assets/page.js" defer>']);
      expect(body).not.toMatch(/ style="| on[a-z]+="|<style|[\u001b\u202e\u0007]/);
      expect(body).toContain(path === '/' ? 'bad' : 'alert(1)');
    }
  });

  test('search the history', async () => {
    await build('curl', '', false);
    await build('zlib', '');
    const names = async (path: string): Promise<string[]> =>
      [...(await ask(path)).body.matchAll(/<td class="name">(.*?)<\/td>/g)].map(([, name = '']) => name);
    expect(await names('/history')).toEqual(['zlib', 'curl']);
    expect(await names('/history?name=zl')).toEqual(['zlib']);
    expect(await names('/history?failed=on&since=1h')).toEqual(['curl']);
    expect(await names('/history?before=b2')).toEqual(['curl']);
  });

  test('show the end of a log with its colours, and all of it as text', async () => {
    const id = await build(
      'loud',
      `first line\n${'x'.repeat(300_000)}\n\u001b[31mred\u001b[0m \u001b]0;evil\u0007last`,
    );
    const { body } = await ask(`/builds/${id}`);
    expect(body).toContain('<span class="fg1">red</span> last');
    expect(body).toContain('Only the end is shown.');
    expect(body).not.toContain('first line');
    expect(body.length).toBeLessThan(400_000);
    const whole = await ask(`/builds/${id}/log`);
    expect(whole.headers).toMatchObject({ 'content-type': 'text/plain; charset=utf-8' });
    expect(whole.headers['content-security-policy']).toMatch(/^default-src 'none'/);
    expect(whole.body).toMatch(/^first line\n/);
    expect(whole.body).not.toMatch(/[\u001b\u0007]/);
  });

  test('read only the end of a log that cannot be compressed', async () => {
    const id = begin('noise');
    const lines = Array.from({ length: 40 }, () => randomBytes(30_000).toString('base64'));
    for (const line of lines) await history?.addLine(id, line);
    await history?.finish(id, { result: 'Built', succeeded: true, error: null });
    let text = '';
    for await (const chunk of history?.readLog(id, { lastBytes: 100_000 }) ?? []) text += String(chunk);
    expect(text.length).toBeGreaterThanOrEqual(100_000);
    expect(text.length).toBeLessThan(256 * 1024);
    expect(`${lines.join('\n')}\n`.endsWith(text)).toBe(true);
  });

  test('read only the end of a log of 20 MB', async () => {
    const id = begin('huge');
    for (let i = 0; i < 320; i++) await history?.addLine(id, `${i} `.repeat(16_000));
    await history?.addLine(id, 'the end');
    await history?.finish(id, { result: 'Built', succeeded: true, error: null });
    const signal = AbortSignal.timeout(60_000);
    let bytes = 0;
    for await (const chunk of history?.readLog(id, { lastBytes: 4_096, signal }) ?? []) bytes += chunk.length;
    expect(bytes).toBeGreaterThan(4_096);
    expect(bytes).toBeLessThan(256 * 1024);
    expect((await ask(`/builds/b${id}`)).body).toContain('the end');
  });

  test('name what is near to an unknown build, and know no other paths', async () => {
    await build('zlib', '');
    const unknown = await ask('/builds/b99');
    expect(unknown.statusCode).toBe(404);
    expect(unknown.body).toMatch(/There is no build b99[^]*The nearest are b1\./);
    for (const path of [
      '/nothing',
      '/builds',
      '/builds/b1/log/x',
      '/guests/g9',
      '/live/builds/b9/x',
      '//[',
      '/assets/',
    ]) {
      expect((await ask(path)).statusCode).toBe(404);
    }
    expect((await ask('/guests/..%2f..%2fx')).statusCode).toBe(404);
  });

  test('say so where no history is kept', async () => {
    await server.close();
    await history?.close();
    history = undefined;
    await serve();
    expect((await ask('/')).body).toContain('No history is kept');
    const { statusCode, body } = await ask('/history');
    expect(statusCode).toBe(404);
    expect(body).toContain('No history of builds is kept');
  });

  test('leave metrics and health where they were', async () => {
    expect(await ask('/metrics')).toMatchObject({ statusCode: 200, body: 'up 1\n' });
    expect(await ask('/healthz')).toMatchObject({ statusCode: 200, body: 'ok\n' });
  });
});

describe('requests', () => {
  test.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])('%s is not allowed anywhere', async (method) => {
    for (const path of ['/', '/builds/b1', '/builds/b1/cancel', '/drain', '/live', '/assets/page.css']) {
      const { statusCode, headers } = await ask(path, { method });
      expect({ path, statusCode, allow: headers.allow }).toEqual({
        path,
        statusCode: 405,
        allow: 'GET, HEAD',
      });
    }
  });

  test('HEAD is GET without a body, and opens no stream', async () => {
    const id = await build('zlib', 'hello');
    for (const path of ['/', '/history', `/builds/${id}`, `/builds/${id}/log`, '/live', '/assets/page.js']) {
      const { statusCode, body } = await ask(path, { method: 'HEAD' });
      expect({ path, statusCode, body }).toEqual({ path, statusCode: 200, body: '' });
    }
  });

  test('under a foreign host name are refused, with what to do', async () => {
    for (const path of ['/', '/live', '/assets/page.css']) {
      const { statusCode, body } = await ask(path, { headers: { host: 'evil.example:9619' } });
      expect({ path, statusCode }).toEqual({ path, statusCode: 421 });
      expect(body).toContain('Use localhost, an IP address');
    }
    for (const host of ['localhost:1', 'builder.example.org', '[::1]']) {
      expect((await ask('/', { headers: { host } })).statusCode).toBe(200);
    }
  });

  test('for events that another site makes are refused', async () => {
    const { statusCode } = await ask('/live', { headers: { 'sec-fetch-site': 'cross-site' } });
    expect(statusCode).toBe(403);
  });
});

describe('events', () => {
  test('bring what changes', async () => {
    const stream = await follow('/live');
    expect(stream.text).toContain('content-type: text/event-stream');
    await waitUntil('the first picture', () => stream.text.includes('The next build boots one.'));
    status = statusWith({ warnings: ['the host swaps'] });
    events.add({ type: 'lease-waiting' });
    await waitUntil('the change', () => stream.text.includes('the host swaps'));
  });

  test('bring the log of a build as it grows, and end with it', async () => {
    const id = begin('zlib');
    await history?.addLine(id, 'before');
    const stream = await follow(`/live/builds/b${id}`);
    await waitUntil('what there was', () => stream.text.includes('before\\n'));
    await history?.addLine(id, '\u001b[32m<after>');
    await waitUntil('what came', () => stream.text.includes('<span class=\\"fg2\\">&lt;after&gt;\\n</span>'));
    await history?.finish(id, { result: 'MiscFailure', succeeded: false, error: null });
    await waitUntil('the end', () => stream.text.includes('event: end'));
  });

  test('are bounded in number, and pages stay readable', async () => {
    const streams = await Promise.all(Array.from({ length: MAX_PAGE_STREAMS }, () => follow('/live')));
    expect(streams.every((stream) => stream.text.includes('200 OK'))).toBe(true);
    const refused = await ask('/live');
    expect(refused.statusCode).toBe(503);
    expect(refused.body).toContain('Close some of them');
    expect((await ask('/')).statusCode).toBe(200);
    expect((await ask('/metrics')).statusCode).toBe(200);
    status = statusWith({ warnings: ['for all'] });
    events.add({ type: 'lease-waiting' });
    await waitUntil('the change', () => streams.every((stream) => stream.text.includes('for all')));
    for (const { socket } of streams) socket.destroy();
    await followOnceThereIsRoom('/live');
  });

  test('have a place again when readers of logs leave before their answer', async () => {
    // Old enough to be read from the disk, so that readers can leave meanwhile.
    const id = await build('old', 'hello');
    for (let i = 0; i < 64; i++) await build('newer', '');
    for (let i = 0; i < MAX_PAGE_STREAMS; i += 32) {
      const leaving = Array.from({ length: 32 }, async () => {
        const socket = connect(server.port, '127.0.0.1');
        await once(socket, 'connect');
        socket.write(`GET /builds/${id}/log HTTP/1.1\r\nHost: localhost\r\n\r\n`);
        socket.resetAndDestroy();
        await once(socket, 'close');
      });
      await Promise.all(leaving);
    }
    await followOnceThereIsRoom('/live');
  });

  test('have a place again when readers of logs leave while their answer is looked for', async () => {
    const id = await build('zlib', 'hello');
    const record = await history?.get(1);
    const found = deferred<typeof record>();
    let asked = 0;
    if (history !== undefined)
      history.get = async () => {
        asked += 1;
        return await found.promise;
      };
    const leaving = Array.from({ length: MAX_PAGE_STREAMS }, () => connect(server.port, '127.0.0.1'));
    for (const socket of leaving) socket.write(`GET /builds/${id}/log HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await waitUntil('all requests', () => asked === MAX_PAGE_STREAMS);
    for (const socket of leaving) socket.destroy();
    await waitUntil('their ends', () => answersEnded >= MAX_PAGE_STREAMS);
    found.resolve(record);
    await followOnceThereIsRoom('/live');
  });

  test('that are not read cost no more than a bounded buffer', async () => {
    const stream = await follow('/live');
    stream.socket.pause();
    const before = process.memoryUsage();
    const long = 'x'.repeat(200_000);
    for (let i = 0; i < 100; i++) {
      status = statusWith({ warnings: [`${i} ${long}`] });
      events.add({ type: 'lease-waiting' });
      await ask('/live', { method: 'HEAD' });
    }
    const { arrayBuffers, external } = process.memoryUsage();
    expect(arrayBuffers + external - before.arrayBuffers - before.external).toBeLessThan(32 * 1024 * 1024);
  });
});
