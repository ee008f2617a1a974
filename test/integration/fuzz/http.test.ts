import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type NetConnectOpts } from 'node:net';
import { join } from 'node:path';

import { describe, expect, test } from '@jest/globals';

import type { Status } from '../../../src/control/api.js';
import { Operator } from '../../../src/control/operator.js';
import { RecentEvents } from '../../../src/control/recent-events.js';
import { serveControl } from '../../../src/control/server.js';
import { systemClock } from '../../../src/lib/clock.js';
import { serveMetrics } from '../../../src/metrics/http.js';
import { SILENT } from '../../support/front-bench.js';
import { FUZZ_CASES, FUZZ_SEED, mutated, pieces, random, type Random } from '../../support/fuzz.js';
import { within } from '../../support/wait.js';

const REQUESTS = [
  'GET /status HTTP/1.1\r\nHost: drover\r\n\r\n',
  'GET /events?type=boot-started HTTP/1.1\r\nHost: drover\r\nAccept: text/event-stream\r\n\r\n',
  'GET /builds?limit=10&name=x HTTP/1.1\r\nHost: drover\r\n\r\n',
  'GET /builds/b1/log?follow=1 HTTP/1.1\r\nHost: drover\r\n\r\n',
  'GET /guests/%67%31/console HTTP/1.1\r\nHost: drover\r\n\r\n',
  'POST /builds/b1/cancel HTTP/1.1\r\nHost: drover\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"reason":"late"}',
  'POST /drain HTTP/1.1\r\nHost: drover\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
  'CONNECT drover:1 HTTP/1.1\r\nHost: drover\r\nExpect: 100-continue\r\n\r\n',
].map((text) => Buffer.from(text));

/** Sends the bytes and leaves. */
async function attack(to: NetConnectOpts, bytes: Buffer, next: Random): Promise<void> {
  const socket = connect(to);
  const closed = new Promise<void>((resolve) =>
    socket.once('close', () => {
      resolve();
    }),
  );
  socket.on('error', () => undefined).resume();
  for (const piece of pieces(bytes, next)) socket.write(piece);
  if (next(2) === 0)
    socket.end(() => {
      socket.destroy();
    });
  else setImmediate(() => socket.destroy());
  await within('the end of the connection', closed);
}

/** True if it still answers. */
async function answers(to: NetConnectOpts): Promise<boolean> {
  const socket = connect(to);
  const first = new Promise<string>((resolve, reject) => {
    socket.once('data', (chunk) => {
      resolve(chunk.toString());
    });
    socket.once('error', reject);
  });
  socket.write('GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  const answer = await within('an answer', first);
  socket.destroy();
  return answer.startsWith('HTTP/1.1 ');
}

describe(`HTTP with mutated requests (seed ${FUZZ_SEED})`, () => {
  test('the control socket goes on', async () => {
    const dir = await mkdtemp('/tmp/fuzz-');
    const next = random(FUZZ_SEED);
    const operator = new Operator({
      front: { builds: [], cancel: () => false },
      runs: { open: () => Promise.reject(new Error('no program runs')) },
      vms: { open: () => Promise.reject(new Error('no program runs')) },
      pool: {
        snapshot: () => ({ guests: [], programs: [] }) as never,
        pause: () => undefined,
        resume: () => undefined,
        drainGuest: () => undefined,
        bootGuest: () => 'g1',
        enterBuild: () => undefined,
        keptBuilds: [],
        enterGuest: () => {
          throw new Error('a query enters no guest');
        },
      },
      history: undefined,
      ...{
        events: new RecentEvents(systemClock),
        consoleLogs: dir,
        status: () => ({ version: '1' }) as Status,
      },
    });
    const path = join(dir, 's');
    const control = await serveControl(path, operator);
    try {
      for (let index = 0; index < FUZZ_CASES; index++)
        await attack({ path }, mutated(REQUESTS[next(REQUESTS.length)] ?? Buffer.alloc(0), next), next);
      expect(await answers({ path })).toBe(true);
    } finally {
      await control.close();
      await rm(dir, { recursive: true });
    }
  });

  test('the metrics go on', async () => {
    const next = random(FUZZ_SEED + 1);
    const metrics = { contentType: 'text/plain', metrics: () => Promise.resolve('') };
    const server = await serveMetrics({
      ...{ host: '127.0.0.1', port: 0, metrics, unhealthy: () => undefined, log: SILENT },
    });
    const to = { host: '127.0.0.1', port: server.port };
    try {
      for (let index = 0; index < FUZZ_CASES; index++)
        await attack(to, mutated(REQUESTS[next(REQUESTS.length)] ?? Buffer.alloc(0), next), next);
      expect(await answers(to)).toBe(true);
    } finally {
      await server.close();
    }
  });
});
