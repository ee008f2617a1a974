import { readFile } from 'node:fs/promises';

import { beforeAll, expect, test } from '@jest/globals';

import {
  helperErrorCodes,
  helperConfigurationSchema,
  helperEventSchema,
  helperFactsSchema,
  helperReplySchema,
} from '../../src/drivers/vz/helper-protocol.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper, RawHelper } from '../support/vz-helper.js';

describeWith('the protocol of vz-helper', ['vz-helper'], () => {
  let program: string;
  beforeAll(async () => {
    program = await buildVzHelper();
  });

  test('a guest through its whole life', async () => {
    await using helper = await RawHelper.start(program, { guest: true });
    const facts = helperFactsSchema.parse(await helper.ok('hello', { protocol: 1 }));
    expect(facts).toMatchObject({ protocol: 1, supported: true, entitled: true, architecture: 'arm64' });
    expect(await helper.ok('configure', { config: helper.configuration() })).toEqual({ state: 'stopped' });
    expect(await helper.ok('start')).toEqual({ state: 'running' });
    expect(helper.messages.at(-2)).toEqual({ event: 'started' });
    await helper.printed('the guest is up');
    helper.socket().end('CONNECT 11\nexit 0\n');
    expect(await helper.end()).toEqual({ code: 0, signal: null });
    expect(helper.messages.at(-1)).toEqual({ event: 'stopped' });
  });

  test('makes of a configuration what it says', async () => {
    await using helper = await RawHelper.start(program, {
      guest: true,
      knobs: ['nested', 'rosetta=installed', 'macos=15.3.1'],
    });
    expect(await helper.ok('hello', { protocol: 1 })).toMatchObject({
      macos: '15.3.1',
      nested: true,
      rosetta: 'installed',
      rosettaCache: true,
    });
    const disk = helper.path('disk');
    await helper.ok('configure', {
      config: helper.configuration({
        commandLine: 'console=hvc0 "quoted" ünïcode',
        cpus: 4,
        memoryBytes: 3 * 1024 ** 3,
        disks: [
          { path: disk, readOnly: false, identifier: 'scratch' },
          { path: disk, readOnly: false },
          { path: disk, readOnly: true, identifier: 'seed' },
        ],
        shares: [
          { tag: 'store', path: '/usr', readOnly: true },
          { tag: 'drover', path: helper.directory, readOnly: false },
        ],
        rosetta: { tag: 'rosetta', cache: { path: '/run/rosettad/rosetta.sock' } },
        network: { mac: '52:54:00:AB:cd:01' },
        nested: true,
      }),
    });
    await helper.ok('start');
    await helper.printed('the guest is up');
    expect(await helper.machine()).toEqual({
      kernel: helper.path('kernel'),
      initrd: helper.path('initrd'),
      commandLine: 'console=hvc0 "quoted" ünïcode',
      cpus: 4,
      memoryBytes: 3 * 1024 ** 3,
      disks: [
        { path: disk, readOnly: false, caching: 'cached', synchronization: 'none', identifier: 'scratch' },
        { path: disk, readOnly: false, caching: 'cached', synchronization: 'none', identifier: null },
        { path: disk, readOnly: true, caching: 'cached', synchronization: 'none', identifier: 'seed' },
      ],
      shares: [
        { tag: 'store', path: '/usr', readOnly: true },
        { tag: 'drover', path: helper.directory, readOnly: false },
      ],
      rosetta: { tag: 'rosetta', cache: { path: '/run/rosettad/rosetta.sock' } },
      nat: { string: '52:54:00:ab:cd:01' },
      nested: true,
      serialPorts: 1,
      entropyDevices: 1,
      memoryBalloonDevices: 1,
      socketDevices: 1,
      vsockDir: helper.path(`${helper.pid}/vsock`),
    });
  });

  test.each([
    [null, null],
    [
      { tag: 'r', cache: null },
      { tag: 'r', cache: null },
    ],
  ] as const)('Rosetta %j', async (rosetta, made) => {
    await using helper = await RawHelper.start(program, { guest: true });
    await helper.ok('hello', { protocol: 1 });
    await helper.ok('configure', { config: helper.configuration({ rosetta }) });
    await helper.ok('start');
    expect(await helper.machine()).toMatchObject({ rosetta: made, nat: null, nested: false });
  });

  test('sleep and wake of the Mac', async () => {
    await using helper = await RawHelper.start(program);
    const before = Date.now();
    await helper.ok('hello', { protocol: 1 });
    helper.process.kill('SIGUSR1');
    const sleep = helperEventSchema.parse(await helper.event('sleep'));
    helper.process.kill('SIGUSR2');
    const wake = helperEventSchema.parse(await helper.event('wake'));
    for (const event of [sleep, wake]) {
      expect(event).toHaveProperty('wallMs');
      if ('wallMs' in event) expect(Math.abs(event.wallMs - before)).toBeLessThan(60_000);
    }
  });

  test('requests in one piece, and in pieces of a byte', async () => {
    await using helper = await RawHelper.start(program);
    const hello = (id: number): string => `{"id":${id},"op":"hello","protocol":1}\n`;
    helper.write(`\n${hello(1)}${hello(2)}\n\n${hello(3)}`);
    for (const byte of hello(4)) helper.write(byte);
    await helper.message('the last reply', ({ id }) => id === 4);
    expect(helper.messages.map(({ id, ok }) => [id, ok])).toEqual([1, 2, 3, 4].map((id) => [id, true]));
  });

  test('tells the free space of a volume, with what macOS would purge', async () => {
    const purgeable = 2 ** 50;
    await using helper = await RawHelper.start(program, { knobs: [`purgeable=${purgeable}`] });
    expect(await helper.refused('space', { path: '/' })).toMatchObject({ code: helperErrorCodes.badState });
    await helper.ok('hello', { protocol: 1 });
    const { freeBytes } = (await helper.ok('space', { path: '/' })) as { freeBytes: number };
    expect(freeBytes).toBeGreaterThan(purgeable);
    expect(freeBytes).toBeLessThan(2 * purgeable);
    expect(await helper.refused('space', { path: 'relative' })).toMatchObject({ key: 'path' });
    expect(await helper.refused('space', { path: '/absent' })).toMatchObject({ key: 'path' });
  });

  test('the examples of the documentation are what the schema says', async () => {
    const text = await readFile(new URL('../../vz-helper/PROTOCOL.md', import.meta.url), 'utf8');
    const blocks = [...text.matchAll(/^```json\n(.*?)^```$/gms)].map(([, block]) => block ?? '');
    const examples = blocks.flatMap((block) => (/\}\n\{/.test(block) ? block.trim().split('\n') : [block]));
    const kinds = examples.map((example) => {
      const message = JSON.parse(example) as Record<string, unknown>;
      if ('event' in message) return helperEventSchema.parse(message).event;
      if ('ok' in message) {
        const reply = helperReplySchema.parse(message);
        if (!reply.ok) return 'error';
        return helperFactsSchema.safeParse(reply.result).success ? 'facts' : 'reply';
      }
      if ('config' in message) helperConfigurationSchema.parse(message['config']);
      return message['op'];
    });
    expect(kinds.sort()).toEqual(
      [
        ...['configure', 'crashed', 'error', 'facts', 'hello', 'reply', 'space', 'start', 'stopped', 'wake'],
      ].sort(),
    );
  });
});
