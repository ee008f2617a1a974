import type { ChildProcess } from 'node:child_process';
import { PassThrough } from 'node:stream';

import { beforeEach, describe, expect, test } from '@jest/globals';

import { HelperConnection } from '../../../src/drivers/vz/helper-connection.js';
import type { HelperEvent } from '../../../src/drivers/vz/helper-protocol.js';

describe('requests and replies of a vz-helper', () => {
  let stdin: PassThrough;
  let stdout: PassThrough;
  let stderr: PassThrough;
  let killed: unknown[];
  let connection: HelperConnection;
  let events: HelperEvent[];
  beforeEach(() => {
    [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
    killed = [];
    const process = {
      stdin,
      stdout,
      stderr,
      kill: (signal: unknown) => killed.push(signal) > 0,
    } as unknown as ChildProcess;
    connection = new HelperConnection(process);
    events = [];
    connection.events.on((event) => events.push(event));
  });
  const sent = (): unknown => JSON.parse(String(stdin.read()));

  test('a request is a line, and its reply finds it whatever comes between', async () => {
    const start = connection.request({ op: 'start' });
    expect(sent()).toEqual({ id: 1, op: 'start' });
    const hello = connection.request({ op: 'hello', protocol: 1 });
    expect(sent()).toEqual({ id: 2, op: 'hello', protocol: 1 });
    stdout.write('{"event":"started"}\n{"id":2,"ok":false,"error":{"domain":"vz-helper","code":3,');
    stdout.write('"text":"hello: no"}}\n{"id":1,"ok":true,"result":{"state":"running"}}\n');
    await expect(hello).rejects.toMatchObject({
      code: 'VZ_HELPER_REFUSED',
      message: 'vz-helper cannot hello: hello: no',
      context: { op: 'hello', domain: 'vz-helper', code: 3 },
    });
    expect(await start).toEqual({ state: 'running' });
    expect(events).toEqual([{ event: 'started' }]);
  });

  test('messages cut at every byte', async () => {
    const text = '{"event":"stopped"}\n{"id":1,"ok":true,"result":"ünï"}\n';
    const request = connection.request({ op: 'start' });
    for (const byte of Buffer.from(text)) stdout.write(Buffer.from([byte]));
    expect(await request).toBe('ünï');
    expect(events).toEqual([{ event: 'stopped' }]);
  });

  test.each([
    ['no JSON\n', /an invalid message: no JSON/],
    ['[]\n', /an invalid message/],
    ['{"event":"unheard of"}\n', /an invalid message/],
    ['{"id":1,"ok":"yes"}\n', /an invalid message/],
    ['{"id":9,"ok":true,"result":{}}\n', /answers what was not asked/],
    ['{"id":null,"ok":false,"error":{"domain":"vz-helper","code":1,"text":"bad"}}\n', /not asked: bad/],
    ['x'.repeat(1024 * 1024 + 1), /without an end/],
  ])('%.30j: the helper is killed, and what waits fails', async (text, message) => {
    const request = connection.request({ op: 'start' });
    stdout.write(text);
    await new Promise(setImmediate);
    expect(killed).toContain('SIGKILL');
    connection.end('it was killed by SIGKILL');
    await expect(request).rejects.toMatchObject({
      code: 'VZ_HELPER_FAILED',
      message: expect.stringMatching(message) as unknown,
    });
    expect(connection.failure).toMatchObject({ code: 'VZ_HELPER_FAILED' });
    stdout.write('{"event":"started"}\n');
    await new Promise(setImmediate);
    expect(events).toEqual([]);
  });

  test('the end of the helper is the end of what waits, and of what comes', async () => {
    const waiting = [connection.request({ op: 'start' }), connection.request({ op: 'start' })];
    connection.end('it ended with exit status 1');
    for (const request of [...waiting, connection.request({ op: 'hello', protocol: 1 })])
      await expect(request).rejects.toMatchObject({
        code: 'VZ_HELPER_ENDED',
        message: expect.stringMatching(/^vz-helper cannot \w+: it ended with exit status 1$/) as unknown,
      });
  });

  test('keeps the end of stderr', async () => {
    stderr.write(`${'x'.repeat(5000)}\nlast words\n`);
    await new Promise(setImmediate);
    expect(connection.stderr).toHaveLength(1999);
    expect(connection.stderr).toMatch(/\nlast words$/);
  });
});
