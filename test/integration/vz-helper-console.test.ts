import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { text } from 'node:stream/consumers';

import { afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';

import { connectVsock } from '../../src/drivers/vz/helper-vsock.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper, RawHelper } from '../support/vz-helper.js';
import { within } from '../support/wait.js';

const MARKER = '[earlier output was dropped]\n';

describeWith("a guest's console", ['vz-helper'], () => {
  let program: string;
  let helper: RawHelper;
  beforeAll(async () => {
    program = await buildVzHelper();
  });
  beforeEach(async () => {
    helper = await RawHelper.start(program, { guest: true });
    await helper.ok('hello', { protocol: 1 });
  });
  afterEach(async () => {
    await helper[Symbol.asyncDispose]();
  });

  const boot = async (maxBytes: number): Promise<void> => {
    const console = { path: helper.path('console.log'), maxBytes };
    await helper.ok('configure', { config: helper.configuration({ console }) });
    await helper.ok('start');
    await helper.printed('the guest is up');
  };
  const command = async (line: string): Promise<string> => {
    const socket = await connectVsock(helper.path('vsock.sock'), 11);
    socket.on('error', () => undefined).end(`${line}\n`);
    return await within(line, text(socket));
  };
  /** Line N of the guest's output. */
  const line = (n: number): string => `${String(n).padStart(8)} ${'.'.repeat(54)}\n`;

  test.each([4096, 4097, 65536, 1_000_000])(
    'never holds more than %d bytes, the last ones',
    async (maxBytes) => {
      await boot(maxBytes);
      const printing = command(`print ${16 * 1024 * 1024}`);
      let largest = 0;
      const state = { printing: true };
      void printing.then(() => (state.printing = false));
      while (state.printing) largest = Math.max(largest, (await stat(helper.path('console.log'))).size);
      expect(await printing).toBe('done\n');
      const last = 16 * 16 * 1024 - 1;
      await helper.printed(line(last));
      const log = await helper.console();
      expect(Math.max(largest, log.length)).toBeLessThanOrEqual(maxBytes);
      expect(log.startsWith(MARKER)).toBe(true);
      // Whole and in order, from where it begins.
      const kept = log.slice(MARKER.length);
      const first = Math.ceil(last + 1 - kept.length / 64);
      const lines = Array.from({ length: last - first + 1 }, (_, index) => line(first + index)).join('');
      expect(kept.endsWith(lines)).toBe(true);
      expect(kept.length - lines.length).toBeLessThan(64);
      expect(lines.length).toBeGreaterThan(maxBytes / 2 - 128);
    },
  );

  test('has the last words of a guest that crashes', async () => {
    await boot(128 * 1024);
    await command('crash 60000');
    expect(await helper.end()).toEqual({ code: 1, signal: null });
    expect(helper.messages.at(-1)).toMatchObject({ event: 'crashed' });
    expect((await helper.console()).endsWith(`${'.'.repeat(60000)} last words\n`)).toBe(true);
  });

  test('a log that cannot be written warns once, and blocks nothing', async () => {
    await using limited = await RawHelper.start(program, { guest: true });
    // Files of this process end at 8 KiB: the same as a full disk.
    const shell = spawn('prlimit', ['--pid', String(limited.pid), '--fsize=8192']);
    await new Promise((resolve) => shell.once('close', resolve));
    await limited.ok('hello', { protocol: 1 });
    await limited.ok('configure', { config: limited.configuration() });
    await limited.ok('start');
    await limited.printed('the guest is up');
    const socket = await connectVsock(limited.path('vsock.sock'), 11);
    socket.end('print 1000000\n');
    expect(await within('the guest to print', text(socket))).toBe('done\n');
    expect(await limited.event('warning')).toMatchObject({
      error: {
        domain: 'vz-helper',
        code: 7,
        key: 'config.console.path',
        text: expect.stringMatching(/File too large/) as unknown,
      },
    });
    expect(limited.messages.filter(({ event }) => event === 'warning')).toHaveLength(1);
    await limited.ok('hello', { protocol: 1 });
  });
});
