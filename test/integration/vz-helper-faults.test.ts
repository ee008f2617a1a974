import { mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';

import { beforeAll, describe, expect, test } from '@jest/globals';

import { helperErrorCodes as codes } from '../../src/drivers/vz/helper-protocol.js';
import { run } from '../../src/lib/process.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper, RawHelper, type Message } from '../support/vz-helper.js';
import { waitUntil } from '../support/wait.js';

const own = (code: number, text: unknown, key?: string): Message => ({
  domain: 'vz-helper',
  code,
  text,
  ...(key === undefined ? {} : { key }),
});
const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);

describeWith('faults of vz-helper', ['vz-helper'], () => {
  let program: string;
  beforeAll(async () => {
    program = await buildVzHelper();
  });

  /** A helper that has been greeted. */
  const greeted = async (knobs: readonly string[] = []): Promise<RawHelper> => {
    const helper = await RawHelper.start(program, { knobs });
    await helper.ok('hello', { protocol: 1 });
    return helper;
  };

  test.each([
    ['no JSON', 'not a JSON object'],
    ['[]', 'not a JSON object'],
    ['"text"', 'not a JSON object'],
    ['null', 'not a JSON object'],
    ['{"id":1', 'not a JSON object'],
    ['{"id":1,"op":"\uFFFF\\', 'not a JSON object'],
    ['   ', 'not a JSON object'],
    ['x'.repeat(1024 * 1024), 'not a JSON object'],
    ['x'.repeat(1024 * 1024 + 1), 'a line of more than 1048576 bytes'],
    ['x'.repeat(5 * 1024 * 1024), 'a line of more than 1048576 bytes'],
  ])('a line that is not a request: %.20j', async (line, text) => {
    await using helper = await greeted();
    helper.write(`${line}\n`);
    const reply = await helper.message('an error', ({ id }) => id === null);
    expect(reply).toEqual({ id: null, ok: false, error: own(codes.badLine, text) });
    await helper.ok('hello', { protocol: 1 });
    expect(helper.messages).toHaveLength(3);
  });

  test('bytes that are no UTF-8', async () => {
    await using helper = await greeted();
    helper.process.stdin?.write(Buffer.from([0x7b, 0xff, 0xfe, 0x80, 0x7d, 0x0a]));
    await helper.message('an error', ({ id }) => id === null);
    await helper.ok('hello', { protocol: 1 });
  });

  test.each([
    [{}, 'id', 'id: is missing'],
    [{ id: '1', op: 'hello' }, 'id', 'id: must be an integer'],
    [{ id: 0, op: 'hello' }, 'id', 'id: must be 1 to 9007199254740991'],
    [{ id: 1.5, op: 'hello' }, 'id', 'id: must be an integer'],
    [{ id: true, op: 'hello' }, 'id', 'id: must be an integer'],
    [{ id: null, op: 'hello' }, 'id', 'id: must be an integer'],
    [{ id: 1e300, op: 'hello' }, 'id', 'id: must be an integer'],
  ])('%j has no id to answer to', async (request, key, text) => {
    await using helper = await greeted();
    helper.write(`${JSON.stringify(request)}\n`);
    const reply = await helper.message('an error', ({ id }) => id === null);
    expect(reply).toMatchObject({ ok: false, error: own(codes.badRequest, text, key) });
  });

  test.each([
    ['nonsense', {}, 'op', /^op: must be one of: hello, configure, start, space$/],
    ['hello', {}, 'protocol', /^protocol: is missing$/],
    ['hello', { protocol: '1' }, 'protocol', /^protocol: must be an integer$/],
    ['hello', { protocol: 2 }, 'protocol', /^protocol: must be 1: this helper speaks no other$/],
    ['hello', { protocol: 1, more: 1 }, 'more', /^more: is unknown$/],
    ['start', { now: true }, 'now', /^now: is unknown$/],
    ['configure', {}, 'config', /^config: is missing$/],
    ['configure', { config: [] }, 'config', /^config: must be an object$/],
    ['configure', { config: null }, 'config', /^config: must be an object$/],
    ['configure', { config: {}, 'line\nbreak': 1 }, 'line?break', /^line\?break: is unknown$/],
  ])('the request %s %j', async (op, keys, key, text) => {
    await using helper = await greeted();
    expect(await helper.refused(op, keys)).toEqual(own(codes.badRequest, matching(text), key));
  });

  test('operations out of order', async () => {
    await using helper = await RawHelper.start(program);
    for (const op of ['configure', 'start'])
      expect(await helper.refused(op)).toEqual(own(codes.badState, `${op}: hello comes first`));
    await helper.ok('hello', { protocol: 1 });
    expect(await helper.refused('start')).toEqual(own(codes.badState, 'start: configure comes first'));
    await helper.ok('configure', { config: helper.configuration() });
    expect(await helper.refused('configure', { config: helper.configuration() })).toEqual(
      own(codes.badState, 'there is a guest already: one helper is one guest'),
    );
    await helper.ok('start');
    expect(await helper.refused('start')).toEqual(own(codes.badState, 'start: the guest is running'));
  });

  test('start, twice at once', async () => {
    await using helper = await greeted(['startHangs']);
    await helper.ok('configure', { config: helper.configuration() });
    helper.write('{"id":100,"op":"start"}\n');
    expect(await helper.refused('start')).toEqual(own(codes.badState, 'start: the guest is starting'));
  });

  test.each([
    ['unsupported', codes.unsupported, /cannot run virtual machines/, undefined],
    ['rosetta=notInstalled', codes.rosettaMissing, /run softwareupdate --install-rosetta/, 'config.rosetta'],
    ['rosetta=notSupported', codes.unsupported, /has no Rosetta for Linux/, 'config.rosetta'],
    ['no nesting', codes.unsupported, /this Mac cannot/, 'config.nested'],
  ])('a Mac that cannot: %s', async (knob, code, text, key) => {
    await using helper = await RawHelper.start(program, { knobs: [knob] });
    expect(await helper.ok('hello', { protocol: 1 })).toMatchObject({
      supported: knob !== 'unsupported',
      entitled: true,
      rosetta: knob.startsWith('rosetta=') ? knob.slice(8) : 'installed',
      rosettaCache: knob !== 'rosetta=notSupported',
      nested: false,
    });
    const config = helper.configuration(
      knob.startsWith('rosetta') ? { rosetta: { tag: 'rosetta', cache: null } } : { nested: true },
    );
    expect(await helper.refused('configure', { config })).toEqual(own(code, matching(text), key));
  });

  test('an entitlement that is missing is for the framework to refuse', async () => {
    await using hidden = await RawHelper.start(program, { knobs: ['entitlementHidden'] });
    expect(await hidden.ok('hello', { protocol: 1 })).toMatchObject({ entitled: false });
    await hidden.ok('configure', { config: hidden.configuration() });
    await using unsigned = await greeted(['unentitled']);
    expect(await unsigned.refused('configure', { config: unsigned.configuration() })).toMatchObject({
      domain: 'VZErrorDomain',
      code: 2,
      text: matching(/com\.apple\.security\.virtualization/),
    });
  });

  test('what macOS refuses is told with its own domain and code, and may be tried again', async () => {
    await using helper = await greeted(['invalid']);
    const config = helper.configuration();
    for (let attempt = 0; attempt < 2; attempt++)
      expect(await helper.refused('configure', { config })).toEqual({
        domain: 'VZErrorDomain',
        code: 2,
        key: 'config',
        text: 'config: Invalid virtual machine configuration. Whatever macOS says.',
      });
    expect((await readdir(helper.directory)).sort()).toEqual(['disk', 'initrd', 'kernel']);
  });

  test.each([
    ['startFails', { domain: 'VZErrorDomain', code: 1, text: matching(/failed to start/) }],
    ['startThrows', own(codes.exception, 'NSInvalidArgumentException: start throws')],
  ])('a start that fails: %s', async (knob, error) => {
    await using helper = await greeted([knob]);
    await helper.ok('configure', { config: helper.configuration() });
    for (let attempt = 0; attempt < 2; attempt++) expect(await helper.refused('start')).toEqual(error);
    expect(helper.messages.some(({ event }) => event !== undefined)).toBe(false);
  });

  test.each([
    ['guestStops', 0, { event: 'stopped' }],
    [
      'guestCrashes',
      1,
      {
        event: 'crashed',
        error: { domain: 'VZErrorDomain', code: 1, text: matching(/stopped unexpectedly/) },
      },
    ],
  ])('a guest that ends by itself: %s', async (knob, code, last) => {
    await using helper = await RawHelper.running(program, { knobs: [knob] });
    expect(await helper.end()).toEqual({ code, signal: null });
    expect(helper.messages.slice(-3)).toEqual([
      { event: 'started' },
      { id: 3, ok: true, result: { state: 'running' } },
      last,
    ]);
  });

  test('a network that macOS takes away', async () => {
    await using helper = await RawHelper.running(program, { knobs: ['networkLost'] });
    expect(await helper.event('networkLost')).toMatchObject({ error: { domain: 'VZErrorDomain', code: 7 } });
    await helper.ok('hello', { protocol: 1 });
  });

  test.each(['kernel', 'initrd'] as const)('a %s that is not there, or no file', async (key) => {
    await using helper = await greeted();
    const refused = async (path: string): Promise<Message> =>
      await helper.refused('configure', { config: helper.configuration({ [key]: path }) });
    const name = `config.${key}`;
    expect(await refused('/nowhere')).toEqual(own(codes.failed, `${name}: No such file or directory`, name));
    expect(await refused('/')).toEqual(own(codes.failed, `${name}: is no file`, name));
  });

  test('disks and shares that are not what they should be', async () => {
    await using helper = await greeted();
    const disk = { path: helper.path('disk'), readOnly: false } as const;
    const share = { tag: 'a', path: '/usr', readOnly: true };
    const refused = async (changes: Message): Promise<Message> =>
      await helper.refused('configure', { config: helper.configuration(changes) });
    expect(await refused({ disks: [disk, { ...disk, path: '/nowhere' }] })).toMatchObject({
      key: 'config.disks.1.path',
      code: codes.failed,
    });
    expect(await refused({ shares: [share, { ...share, tag: 'b', path: helper.path('disk') }] })).toEqual(
      own(codes.failed, 'config.shares.1.path: is no directory', 'config.shares.1.path'),
    );
    expect(await refused({ shares: [share, share] })).toEqual(
      own(codes.badRequest, "config.shares.1.tag: is another share's already", 'config.shares.1.tag'),
    );
    expect(await refused({ shares: [share], rosetta: { tag: 'a', cache: null } })).toMatchObject({
      key: 'config.rosetta.tag',
    });
    expect(await refused({ cpus: 17 })).toEqual(
      own(codes.badRequest, 'config.cpus: must be 1 to 16', 'config.cpus'),
    );
  });

  test('a console log and a vsock socket that cannot be made', async () => {
    await using helper = await greeted();
    const refused = async (changes: Message): Promise<Message> =>
      await helper.refused('configure', { config: helper.configuration(changes) });
    await symlink(helper.path('disk'), helper.path('link'));
    await run('mkfifo', [helper.path('fifo')]);
    for (const path of ['/nowhere/console.log', helper.directory, helper.path('link'), helper.path('fifo')])
      expect(await refused({ console: { path, maxBytes: 4096 } })).toEqual(
        own(codes.failed, matching(/^config\.console\.path: [A-Z]/), 'config.console.path'),
      );
    expect(await readFile(helper.path('disk'), 'utf8')).toBe('x');
    for (const path of ['/nowhere/vsock.sock', helper.path('disk'), helper.directory])
      expect(await refused({ vsock: { path } })).toEqual(
        own(codes.failed, matching(/^config\.vsock\.path: [A-Z]/), 'config.vsock.path'),
      );
    await helper.ok('configure', { config: helper.configuration() });
    await helper.ok('start');
  });

  test('a supervisor that sends without end while nothing can be done', async () => {
    await using helper = await greeted(['startBlocks']);
    await helper.ok('configure', { config: helper.configuration() });
    helper.write('{"id":100,"op":"start"}\n');
    const line = `{"id":1,"op":"hello","protocol":1,"x":"${'x'.repeat(100_000)}"}\n`;
    for (let n = 0; n < 100; n++) helper.write(line);
    expect(await helper.end()).toEqual({ code: 2, signal: null });
  });

  describe('the end of stdin, at once and without a trace,', () => {
    const reached: Readonly<Record<string, (helper: RawHelper) => Promise<void>>> = {
      'before hello': () => Promise.resolve(),
      'after hello': async (helper) => {
        await helper.ok('hello', { protocol: 1 });
      },
      configured: async (helper) => {
        await helper.ok('hello', { protocol: 1 });
        await helper.ok('configure', { config: helper.configuration() });
      },
      'starting (startHangs)': async (helper) => {
        await reached['configured']?.(helper);
        helper.write('{"id":100,"op":"start"}\n');
        await helper.printed('the guest is up');
      },
      'blocked (startBlocks)': async (helper) => {
        await reached['configured']?.(helper);
        helper.write('{"id":100,"op":"start"}\n{"id":101,"op":"start"}\n');
      },
      running: async (helper) => {
        await reached['configured']?.(helper);
        await helper.ok('start');
        await helper.printed('the guest is up');
      },
      'with half a request': async (helper) => {
        await reached['running']?.(helper);
        helper.write('{"id":100,');
      },
      'with a connection that is blocked': async (helper) => {
        await reached['running']?.(helper);
        const socket = helper.socket();
        socket.write('CONNECT 13\n');
        await waitUntil('OK', () => socket.read() !== null);
        socket.write(Buffer.alloc(8 * 1024 * 1024));
      },
      'while its output is not read': async (helper) => {
        await reached['running']?.(helper);
        helper.process.stdout?.pause();
        const hello = '{"id":1,"op":"hello","protocol":1}\n';
        helper.write(hello.repeat(5000));
        await waitUntil('the helper to wait for its reader', async () => {
          const wchan = await readFile(`/proc/${helper.pid}/stat`, 'utf8');
          return wchan.split(') ')[1]?.startsWith('S');
        });
      },
    };

    test.each(Object.keys(reached))('%s', async (name) => {
      const knob = /\((.*)\)/.exec(name)?.[1];
      await using helper = await RawHelper.start(program, {
        guest: true,
        knobs: knob === undefined ? [] : [knob],
      });
      await reached[name]?.(helper);
      const children = await readFile(`/proc/${helper.pid}/task/${helper.pid}/children`, 'utf8');
      helper.process.stdin?.end();
      helper.process.stdout?.resume();
      expect(await helper.end()).toEqual({ code: 0, signal: null });
      for (const pid of children.trim().split(' ').filter(Boolean))
        await waitUntil(`the end of the guest ${pid}`, async () => await isGone(pid));
    });
  });

  test('a supervisor that does not read any more', async () => {
    await using helper = await RawHelper.running(program);
    helper.process.stdout?.destroy();
    helper.write('{"id":9,"op":"hello","protocol":1}\n');
    expect(await helper.end()).toMatchObject({ code: 0 });
  });

  test('files are for its own user only', async () => {
    await using helper = await greeted();
    await mkdir(helper.path('logs'));
    await writeFile(helper.path('logs/old.log'), 'of an earlier guest', { mode: 0o644 });
    const console = { path: helper.path('logs/old.log'), maxBytes: 4096 };
    await helper.ok('configure', { config: helper.configuration({ console }) });
    expect((await stat(console.path)).mode & 0o777).toBe(0o600);
    expect(await readFile(console.path, 'utf8')).toBe('');
    expect((await stat(helper.path('vsock.sock'))).mode & 0o777).toBe(0o600);
  });
});

async function isGone(pid: string): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return status === undefined || /\) Z/.test(status);
}
