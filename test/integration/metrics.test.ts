import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { pino } from 'pino';

import { serveMetrics, type MetricsServer, type MetricsServerOptions } from '../../src/metrics/http.js';
import { MetricsBench } from '../unit/metrics/support.js';
import { ownAddress } from '../support/own-address.js';
import { describeWith } from '../support/requirements.js';
import { closeOf } from '../support/wait.js';

const log = pino({ level: 'silent' });
const HOST = ownAddress();

let bench: MetricsBench;
let server: MetricsServer;
let reason: string | undefined;
const others: MetricsServer[] = [];

async function serve(options: Partial<MetricsServerOptions> = {}): Promise<MetricsServer> {
  const started = await serveMetrics({
    host: HOST,
    port: 0,
    metrics: bench.registry,
    unhealthy: () => reason,
    log,
    ...options,
  });
  others.push(started);
  return started;
}

async function ask(
  path: string,
  method = 'GET',
  { port } = server,
): Promise<IncomingMessage & { body: string }> {
  const asked = request({ host: HOST, port, path, method, agent: false });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return Object.assign(response, { body: await text(response) });
}

async function connectTo({ port }: MetricsServer): Promise<Socket> {
  const socket = connect(port, HOST);
  await once(socket, 'connect');
  return socket.on('error', () => undefined);
}

beforeEach(async () => {
  bench = new MetricsBench();
  reason = undefined;
  server = await serve();
});

afterEach(async () => {
  for (const each of others.splice(0)) await each.close();
});

describe('routes', () => {
  test('GET /metrics is the exposition', async () => {
    bench.frontEvents.emit({ type: 'log-line' });
    const response = await ask('/metrics');
    expect(response.statusCode).toBe(200);
    expect(response.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(response.body).toContain('\ndrover_build_log_lines_total 1\n');
    expect((await ask('/metrics?name%5B%5D=up')).statusCode).toBe(200);
  });

  test('GET /healthz says whether Drover takes builds', async () => {
    expect(await ask('/healthz')).toMatchObject({ statusCode: 200, body: 'ok\n' });
    reason = 'draining: 2 builds still run';
    expect(await ask('/healthz')).toMatchObject({ statusCode: 503, body: 'draining: 2 builds still run\n' });
    expect((await ask('/metrics')).statusCode).toBe(200);
  });

  test('HEAD is GET without a body', async () => {
    for (const path of ['/healthz', '/metrics']) {
      const response = await ask(path, 'HEAD');
      expect(response).toMatchObject({ statusCode: 200, body: '' });
      expect(Number(response.headers['content-length'])).toBeGreaterThan(0);
    }
    reason = 'draining';
    expect((await ask('/healthz', 'HEAD')).statusCode).toBe(503);
  });

  test.each(['/', '/metrics/', '/Metrics', '/__proto__', '/constructor', '//metrics', '/..%2fmetrics'])(
    '%s is not there',
    async (path) => {
      expect((await ask(path)).statusCode).toBe(404);
    },
  );

  test.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])('%s is not allowed', async (method) => {
    const response = await ask('/metrics', method);
    expect(response.statusCode).toBe(405);
    expect(response.headers).toMatchObject({ allow: 'GET, HEAD', connection: 'close' });
  });

  test('metrics that cannot be read are an error of this request alone', async () => {
    let broken = true;
    const metrics = {
      contentType: 'text/plain',
      metrics: () => (broken ? Promise.reject(new Error('secret detail')) : Promise.resolve('up 1\n')),
    };
    const other = await serve({ metrics });
    const response = await ask('/metrics', 'GET', other);
    expect(response.statusCode).toBe(500);
    expect(response.body).not.toContain('secret detail');
    broken = false;
    expect((await ask('/metrics', 'GET', other)).body).toBe('up 1\n');
  });
});

describe('limits', () => {
  test('headers of more than 8 KiB are refused', async () => {
    const socket = await connectTo(server);
    socket.write(`GET /metrics HTTP/1.1\r\nHost: drover\r\nX-Long: ${'x'.repeat(8192)}\r\n\r\n`);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 431 /);
  });

  test('what is not HTTP is refused', async () => {
    const socket = await connectTo(server);
    socket.write('\x16\x03\x01 hello\r\n\r\n');
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('a client that says nothing, and one that never ends its request, are cut off', async () => {
    const impatient = await serve({ timeoutMs: 50 });
    const silent = await connectTo(impatient);
    const endless = await connectTo(impatient);
    endless.write('GET /metrics HTTP/1.1\r\nHost: drover\r\n');
    silent.resume();
    endless.resume();
    await Promise.all([closeOf(silent), closeOf(endless)]);
  });

  test('no more than 64 connections', async () => {
    const sockets: Socket[] = [];
    for (let i = 0; i < 64; i++) sockets.push(await connectTo(server));
    const extra = await connectTo(server);
    extra.resume();
    await closeOf(extra);
    expect(sockets.some((socket) => socket.destroyed)).toBe(false);
    for (const socket of sockets) socket.destroy();
  });
});

test('a port that is taken is told as such', async () => {
  await expect(serve({ port: server.port })).rejects.toMatchObject({
    code: 'ADDRESS_IN_USE',
    message: `${HOST}:${server.port} is already in use by another process`,
  });
});

test('closing does not wait for clients that stay, and frees the port', async () => {
  const idle = await connectTo(server);
  idle.resume();
  await Promise.all([server.close(), closeOf(idle)]);
  await server.close();
  const next = await serve({ port: server.port });
  expect((await ask('/healthz', 'GET', next)).statusCode).toBe(200);
});

describeWith('promtool', ['prometheus'], () => {
  test('accepts the metrics without a warning', async () => {
    bench.poolEvents.emit({
      ...{ type: 'boot-finished', guest: 'g1', result: 'ok' },
      ...{ durationMs: 400, phases: { start: 400 } },
    });
    bench.frontEvents.emit({
      type: 'session-closed',
      door: 'ssh',
      error: 'NEW',
      receivedBytes: 1,
      sentBytes: 2,
    });
    // Some of the process's metrics appear with the second scrape.
    await ask('/metrics');
    const { body } = await ask('/metrics');
    const { exitCode, all } = await execa('promtool', ['check', 'metrics'], {
      input: body,
      all: true,
      reject: false,
    });
    expect({ exitCode, all }).toEqual({ exitCode: 0, all: '' });
  });
});
