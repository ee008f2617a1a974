import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import type { HelperConfiguration, HelperEvent } from '../../src/drivers/vz/helper-protocol.js';
import { connectVsock } from '../../src/drivers/vz/helper-vsock.js';
import { startHelper, type VzHelper } from '../../src/drivers/vz/helper.js';
import { errorCode, errorMessage } from '../../src/lib/errors.js';
import { FakeClock } from '../support/fake-clock.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper, TEST_GUEST } from '../support/vz-helper.js';
import { waitUntil, within } from '../support/wait.js';

describeWith('the client of vz-helper', ['vz-helper'], () => {
  let program: string;
  let withGuest: string;
  let directory: string;
  let count = 0;
  beforeAll(async () => {
    program = await buildVzHelper();
    directory = await mkdtemp(join(tmpdir(), 'vz-'));
    await writeFile(join(directory, 'file'), '');
    withGuest = await fakeHelper(
      `export DROVER_VZ_DOUBLE=halfClose DROVER_VZ_DOUBLE_GUEST='${TEST_GUEST}' DROVER_VZ_DOUBLE_DIR='${directory}'; exec '${program}'`,
    );
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  const configuration = (changes: Partial<HelperConfiguration> = {}): HelperConfiguration => {
    count += 1;
    return {
      kernel: join(directory, 'file'),
      initrd: join(directory, 'file'),
      commandLine: '',
      cpus: 1,
      memoryBytes: 1024 ** 3,
      disks: [],
      shares: [],
      rosetta: null,
      network: null,
      console: { path: join(directory, `${count}.log`), maxBytes: 65536 },
      vsock: { path: join(directory, `${count}.sock`) },
      nested: false,
      ...changes,
    };
  };
  const start = async (): Promise<VzHelper> => await startHelper({ program: withGuest, setpriv: undefined });
  /** Boots a helper whose guest listens at all of its vsock ports. */
  const boot = async (): Promise<{ helper: VzHelper; path: string; events: HelperEvent[] }> => {
    const helper = await start();
    const events: HelperEvent[] = [];
    helper.events.on((event) => events.push(event));
    const config = configuration();
    expect(await helper.configure(config)).toBe('stopped');
    expect(await helper.start()).toBe('running');
    const { path } = config.vsock;
    await waitUntil('the guest', async () =>
      (await readFile(config.console.path, 'utf8')).includes('the guest is up'),
    );
    return { helper, path, events };
  };
  const fakeHelper = async (script: string): Promise<string> => {
    const path = join(directory, `fake-${(count += 1)}`);
    await writeFile(path, `#!/bin/sh\n${script}\n`);
    await chmod(path, 0o755);
    return path;
  };

  test('a guest from start to kill, and its vsock', async () => {
    const { helper, path, events } = await boot();
    expect(helper.facts).toMatchObject({ protocol: 1, supported: true });
    const socket = await connectVsock(path, 7);
    socket.end('there and back');
    expect(await text(socket)).toBe('there and back');
    await helper.kill();
    expect(await within('its end', helper.exited)).toBe('it was killed by SIGKILL');
    expect(events).toEqual([{ event: 'started' }]);
    await expect(helper.start()).rejects.toMatchObject({
      code: 'VZ_HELPER_ENDED',
      message: 'vz-helper cannot start: it was killed by SIGKILL',
    });
    await helper.close();
    await helper.kill();
  });

  test('a guest that powers off, and one that crashes', async () => {
    const first = await boot();
    (await connectVsock(first.path, 11)).on('error', () => undefined).end('exit 0\n');
    expect(await within('its end', first.helper.exited)).toBe('the guest powered off');
    const second = await boot();
    (await connectVsock(second.path, 11)).on('error', () => undefined).end('exit 7\n');
    expect(await within('its end', second.helper.exited)).toMatch(
      /^the guest crashed: Internal Virtualization error.*status 7/,
    );
  });

  test('close, kill and a signal end it', async () => {
    const closed = await boot();
    await closed.helper.close();
    expect(await closed.helper.exited).toBe('it ended with exit status 0');
    const killed = await boot();
    await killed.helper.kill();
    expect(await killed.helper.exited).toBe('it was killed by SIGKILL');
    const abort = new AbortController();
    const helper = await startHelper({ program, setpriv: undefined, signal: abort.signal });
    abort.abort();
    expect(await within('its end', helper.exited)).toBe('it was killed by SIGKILL');
    await expect(startHelper({ program, setpriv: undefined, signal: abort.signal })).rejects.toThrow(/abort/);
    const early = new AbortController();
    const starting = startHelper({ program, setpriv: undefined, signal: early.signal });
    early.abort();
    await expect(within('the end of the start', starting)).rejects.toThrow(/abort/);
  });

  test('what the helper and what the schema refuse reads the same', async () => {
    const helper = await start();
    await expect(helper.configure(configuration({ kernel: '/nowhere' }))).rejects.toMatchObject({
      code: 'VZ_HELPER_REFUSED',
      message: 'vz-helper cannot configure: config.kernel: No such file or directory',
      context: { op: 'configure', key: 'config.kernel', code: 7, domain: 'vz-helper' },
    });
    await expect(helper.configure(configuration({ kernel: 'relative' }))).rejects.toMatchObject({
      code: 'VZ_HELPER_REFUSED',
      message: 'vz-helper cannot configure: config.kernel: must be an absolute path',
      context: { op: 'configure', key: 'config.kernel' },
    });
    await helper.close();
  });

  test.each([
    ['echo no vz-helper', /does not work as vz-helper: vz-helper sent an invalid message: no vz-helper/],
    ['echo reason >&2; exit 3', /does not work as vz-helper: it ended with exit status 3: reason$/],
    ['kill -9 $$', /does not work as vz-helper: it was killed by SIGKILL$/],
    [
      `read -r request; echo '{"id":1,"ok":true,"result":{"protocol":2}}'; cat > /dev/null`,
      /answers hello with what it should not: protocol: [^\n[]*$/,
    ],
    [
      `echo '{"event":"lunch"}'`,
      /does not work as vz-helper: vz-helper sent an invalid message: \{"event":"lunch"\}$/,
    ],
    [
      `read -r request; echo '{"id":1,"ok":false,"error":{"domain":"vz-helper","code":2,"text":"protocol: must be 2"}}'; cat > /dev/null`,
      /does not work as vz-helper: vz-helper cannot hello: protocol: must be 2/,
    ],
  ])('another program: %s', async (script, message) => {
    const other = await fakeHelper(script);
    const error: unknown = await startHelper({ program: other, setpriv: undefined }).catch((e: unknown) => e);
    expect(errorCode(error)).toBe('VZ_HELPER_FAILED');
    expect(errorMessage(error)).toMatch(message);
  });

  test('a program that is not there', async () => {
    await expect(startHelper({ program: '/nowhere/vz-helper', setpriv: undefined })).rejects.toThrow(
      /nowhere.* does not work as vz-helper: The program \/nowhere\/vz-helper was not found/,
    );
  });

  test('one that never answers, and one that does not end', async () => {
    const clock = new FakeClock();
    const silent = startHelper({ program: await fakeHelper('exec sleep 1000'), setpriv: undefined, clock });
    const refused = expect(silent).rejects.toThrow(/it did not answer within 10 s/);
    await waitUntil('its deadline', () => clock.pendingTimers > 0);
    await clock.advance(10_000);
    await refused;
    const helper = await start();
    await helper.close();
    const hello = JSON.stringify({ id: 1, ok: true, result: helper.facts });
    const stubborn = await startHelper({
      program: await fakeHelper(`read -r request; echo '${hello}'; exec sleep 1000`),
      setpriv: undefined,
      clock,
    });
    const closed = stubborn.close();
    await waitUntil('the deadline of its end', () => clock.pendingTimers > 0);
    await clock.advance(2_000);
    await within('its end', closed);
    expect(await stubborn.exited).toBe('it was killed by SIGKILL');
    expect(clock.pendingTimers).toBe(0);
  });

  describe('what answers at the socket', () => {
    let server: Server;
    const serve = async (answer: string): Promise<string> => {
      const path = join(directory, `answer-${(count += 1)}.sock`);
      server = createServer((socket) =>
        socket
          .on('error', () => undefined)
          .resume()
          .end(answer),
      );
      await new Promise<void>((resolve) => server.listen(path, resolve));
      return path;
    };

    test.each([
      ['', /port 22: it was closed/],
      ['OK', /port 22: it was closed/],
      ['OK x\n', /port 22: OK x$/],
      ['ERROR vz-helper 3 the guest is stopped\n', /port 22: ERROR vz-helper 3 the guest is stopped$/],
      ['x'.repeat(5000), /what answers is no vz-helper/],
    ])('%.30j', async (answer, message) => {
      const path = await serve(answer);
      await expect(connectVsock(path, 22)).rejects.toMatchObject({
        code: 'VSOCK_REFUSED',
        message: expect.stringMatching(message) as unknown,
        context: { path, port: 22 },
      });
      server.close();
    });

    test('bytes that come with the answer', async () => {
      const path = await serve('OK 1\nfirst bytes');
      expect(await text(await connectVsock(path, 22))).toBe('first bytes');
      server.close();
    });

    test('no listener, or none in time', async () => {
      await expect(connectVsock(join(directory, 'missing.sock'), 22)).rejects.toMatchObject({
        code: 'VSOCK_REFUSED',
        message: expect.stringMatching(/ENOENT/) as unknown,
      });
      const path = join(directory, `silent-${(count += 1)}.sock`);
      const silent = createServer((socket) => socket.on('error', () => undefined).resume());
      await new Promise<void>((resolve) => silent.listen(path, resolve));
      const abort = new AbortController();
      const connecting = connectVsock(path, 22, abort.signal);
      silent.once('connection', () => {
        abort.abort(new Error('no more time'));
      });
      await expect(connecting).rejects.toThrow('no more time');
      silent.close();
    });
  });
});
