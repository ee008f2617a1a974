import { connect } from 'node:net';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { ControlClient } from '../../src/control/client.js';
import { Operator } from '../../src/control/operator.js';
import { RecentEvents } from '../../src/control/recent-events.js';
import { serveControl } from '../../src/control/server.js';
import type { ShellRequest } from '../../src/control/shells.js';
import type { Status } from '../../src/control/api.js';
import { BuildHistory } from '../../src/history/history.js';
import { systemClock } from '../../src/lib/clock.js';
import { DroverError } from '../../src/lib/errors.js';
import { StateDir } from '../../src/lib/state-dir.js';
import { SILENT } from '../support/front-bench.js';
import { waitUntil } from '../support/wait.js';

const LIMITS = { keepMs: 3_600_000, maxBuilds: 100, maxBytes: 1024 ** 3, logs: 'all' } as const;

let dir: string;
let history: BuildHistory;
let events: RecentEvents;
let orders: string[];
let consoleLog: string;
let close: (() => Promise<void>)[];
let client: ControlClient;

beforeEach(async () => {
  dir = await mkdtemp('/tmp/control-');
  consoleLog = join(dir, 'console');
  await writeFile(consoleLog, 'booting\n');
  history = await BuildHistory.open({
    ...{ dir: join(dir, 'history'), clock: systemClock, log: SILENT, limits: LIMITS },
  });
  events = new RecentEvents(systemClock);
  orders = [];
  const note = (order: string) => () => void orders.push(order);
  const operator = new Operator({
    front: {
      builds: [],
      cancel: (build, { by, reason }) => {
        orders.push(`cancel ${build} ${by} ${reason ?? '-'}`);
        return build === 'b1';
      },
    },
    runs: { open: () => Promise.reject(new Error('no program runs')) },
    vms: { open: () => Promise.reject(new Error('no program runs')) },
    pool: {
      snapshot: () => ({ guests: [{ id: 'g1', consoleLog }], programs: [] }) as never,
      pause: note('pause'),
      resume: note('resume'),
      drainGuest: (id) => void orders.push(`drain ${id}`),
      bootGuest: () => 'g2',
      enterBuild: () => undefined,
      keptBuilds: [],
      enterGuest: () => {
        throw new DroverError('NO_ROOM', 'the guest is full');
      },
    },
    ...{ history, events, consoleLogs: dir, status: () => ({ version: '1' }) as Status },
  });
  const own = await serveControl(new StateDir(dir).controlSocket, operator);
  const look = await serveControl(join(dir, 'look.sock'), operator, { group: 'admin' });
  close = [() => own.close(), () => look.close()];
  client = new ControlClient({ stateDir: dir });
});

afterEach(async () => {
  for (const each of close) await each();
  await history.close();
  await rm(dir, { recursive: true });
});

async function build(name: string, succeeded = true): Promise<string> {
  const id = history.begin({
    ...{ derivation: `/nix/store/${'0'.repeat(32)}-${name}.drv`, name, system: 'x86_64-linux' },
    client: { door: 'socket', domain: 'uid:0', name: 'uid 0' },
  });
  await history.addLine(id, `log of ${name}`);
  await history.finish(id, { result: succeeded ? 'Built' : 'MiscFailure', succeeded, error: null });
  return `b${id}`;
}

async function textOf(parts: AsyncIterable<Uint8Array>): Promise<string> {
  let text = '';
  for await (const part of parts) text += String(part);
  return text;
}

describe('the control socket', () => {
  test('lists, shows and logs builds', async () => {
    await build('curl', false);
    const id = await build('zlib');
    expect((await client.builds({})).map(({ name }) => name)).toEqual(['zlib', 'curl']);
    expect((await client.builds({ failed: true, names: ['cur'] })).map(({ name }) => name)).toEqual(['curl']);
    expect((await client.builds({ since: Date.now() + 1000 })).length).toBe(0);
    expect(await client.build(id)).toMatchObject({ id: 'b2', name: 'zlib', result: 'Built' });
    expect(await textOf(await client.log(id, false))).toBe('log of zlib\n');
    expect(await textOf(await client.log(id, true))).toBe('log of zlib\n');
  });

  test('names what is near to an id that it does not know', async () => {
    await build('zlib');
    await expect(client.build('b99')).rejects.toMatchObject({
      ...{ code: 'UNKNOWN_BUILD', message: 'There is no build b99', hint: 'The nearest are b1.' },
    });
    await expect(client.log('../../etc/passwd', false)).rejects.toMatchObject({ code: 'UNKNOWN_BUILD' });
    await expect(client.log('g7', false)).rejects.toMatchObject({
      ...{ code: 'UNKNOWN_GUEST', hint: 'Guests that run: g1.' },
    });
    await expect(client.drain('g9')).rejects.toMatchObject({ code: 'UNKNOWN_GUEST' });
  });

  test('passes orders on', async () => {
    await client.drain('g1');
    await client.drain(undefined);
    await client.resume();
    expect(await client.boot()).toBe('g2');
    await client.cancel('b1', { by: 'al\u001bice', reason: null });
    expect(orders).toEqual(['drain g1', 'pause', 'resume', 'cancel b1 al\\u001bice -']);
    await build('zlib');
    await build('curl');
    await expect(client.cancel('b2', { by: 'alice', reason: null })).rejects.toMatchObject({
      ...{ code: 'BUILD_ENDED', message: 'The build b2 has ended: Built' },
    });
  });

  test('follows the console of a guest until it is removed', async () => {
    const log = await client.log('g1', true);
    let text = '';
    const followed = (async () => {
      for await (const part of log) text += String(part);
    })();
    await waitUntil('what was there', () => text.includes('booting'));
    await writeFile(consoleLog, 'login:\n', { flag: 'a' });
    await waitUntil('what was added', () => text.includes('login:'));
    await rm(consoleLog);
    await followed;
  });

  test('gives recent events, and those to come, with their time', async () => {
    events.add({ type: 'lease-waiting' });
    events.add({ type: 'log-line' });
    expect(await client.recentEvents()).toMatchObject([{ type: 'lease-waiting', at: expect.any(String) }]);
    const following = await client.followEvents();
    events.add({ type: 'lease-returned', guest: 'g1' });
    expect((await following.next()).value).toMatchObject({ type: 'lease-returned', guest: 'g1' });
    await following.return();
  });

  test('serves 200 streams of events, cuts off those that do not read, and refuses more than its limit', async () => {
    const sockets = Array.from({ length: 256 }, () => connect(new StateDir(dir).controlSocket).pause());
    for (const socket of sockets) socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n');
    await waitUntil('the limit', async () => {
      const refused = await client.followEvents().catch((error: unknown) => error);
      if (refused instanceof Error) return (refused as Error & { code?: string }).code === 'TOO_MANY_STREAMS';
      await (refused as AsyncGenerator).return(undefined);
      return false;
    });
    const resident = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 5_000; i++) {
      events.add({ type: 'build-replayed', guest: 'g'.repeat(1_000), cause: 'lost' });
    }
    expect(process.memoryUsage().arrayBuffers - resident).toBeLessThan(256 * 1024 * 1024);
    for (const socket of sockets) socket.destroy();
    await waitUntil('room', async () => {
      const following = await client.followEvents().catch(() => undefined);
      await following?.return();
      return following !== undefined;
    });
  });

  test.each([
    ['an unknown path', 'GET', '/nothing'],
    ['an unknown order', 'POST', '/nothing'],
    ['a method of its own', 'DELETE', '/builds'],
    ['a broken escape', 'GET', '/builds/%ff'],
  ])('answers %s with an error', async (_what, method, path) => {
    const answer = await raw(new StateDir(dir).controlSocket, method, path);
    expect(answer).toContain('HTTP/1.1 400');
    expect(answer).toContain('"code":"CONTROL_FAILED"');
  });

  test('is closed to all but its owner', async () => {
    expect((await stat(new StateDir(dir).controlSocket)).mode & 0o777).toBe(0o600);
  });
});

test('the socket for a group answers questions, and carries out no order', async () => {
  const socket = join(dir, 'look.sock');
  expect(await raw(socket, 'GET', '/status')).toContain('"version":"1"');
  for (const path of ['/drain', '/resume', '/boot', '/builds/b1/cancel', '/guests/g1/drain']) {
    const answer = await raw(socket, 'POST', path);
    expect(answer).toContain('HTTP/1.1 403');
    expect(answer).toContain('Members of the group admin may look, and change nothing');
  }
  const shell = await raw(socket, 'POST', '/guests/g1/shell', UPGRADE);
  expect(shell).toContain('HTTP/1.1 403');
  expect(shell).toContain('Members of the group admin may look, and change nothing');
  expect(orders).toEqual([]);
});

test('a program is started by an upgraded connection only, and told by name what is wrong', async () => {
  const { controlSocket } = new StateDir(dir);
  expect(await raw(controlSocket, 'POST', '/guests/g1/shell')).toContain('There is no order');
  expect(await raw(controlSocket, 'POST', '/guests/g1/nonsense', UPGRADE)).toContain('There is no program');
  const ask = async (guest: string, request: unknown): Promise<string> => {
    const connection = await client.shell(guest, request as ShellRequest);
    let text = '';
    for await (const chunk of connection) text += String(chunk);
    return text;
  };
  expect(await ask('g1', { terminal: null })).toContain('NO_ROOM');
  expect(await ask('g7', { terminal: null })).toContain('Guests that run: g1.');
  expect(await ask('g1', { terminal: { columns: 1, rows: 1, type: '$(id)' } })).toContain('terminal.type');
});

const UPGRADE = 'Connection: Upgrade\r\nUpgrade: drover-program\r\n';

async function raw(
  path: string,
  method: string,
  target: string,
  headers = 'Connection: close\r\n',
): Promise<string> {
  const socket = connect(path);
  socket.end(`${method} ${target} HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: 0\r\n\r\n`);
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}
