import { expect, test } from '@jest/globals';

import { machines, type MachinesOptions, type MachinesText } from '../../../src/cli/commands/machines.js';
import type { MachineSources } from '../../../src/cli/context.js';
import { parseConfig } from '../../../src/config/load.js';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g';
const SOURCES: MachineSources = {
  systems: () => Promise.resolve(['x86_64-linux']),
  hostKey: () => Promise.resolve(KEY),
  connectProgram: () => '/s/doors/connect',
  hostName: 'builder.example',
  cwd: '/home/me',
};

async function printed(options: Partial<MachinesOptions>, listen?: string): Promise<string> {
  return (await output(options, listen)).text;
}

async function output(options: Partial<MachinesOptions>, listen = '10.0.0.1:31122'): Promise<MachinesText> {
  const text = `stateDir: /nowhere\ndoors: { ssh: { listen: "${listen}", authorizedKeys: ["${KEY}"] } }\n`;
  const config = parseConfig(text, 'drover.yaml', { env: {}, uid: 0, home: '/root' });
  return await machines(
    config,
    { door: 'ssh', format: 'machines', identity: undefined, host: undefined, name: 'drover', ...options },
    SOURCES,
  );
}

test.each([
  ['10.0.0.1:31122', '10.0.0.1'],
  ['0.0.0.0:31122', 'builder.example'],
  ['[::]:31122', 'builder.example'],
])('ssh connects to a name that clients can reach: %s', async (listen, host) => {
  expect(await printed({ format: 'ssh-config' }, listen)).toContain(`  HostName ${host}\n`);
});

test('names a key file in ssh_config, absolute, and rejects one for Nix', async () => {
  expect(await printed({ identity: 'my id', format: 'ssh-config' })).toContain(
    '  IdentityFile "/home/me/my id"\n',
  );
  for (const format of ['machines', 'nix.conf'] as const)
    await expect(printed({ identity: '/k/id', format })).rejects.toMatchObject({ code: 'IDENTITY_UNUSABLE' });
});

test('lets ssh share one connection, without an ssh that Nix knows of', async () => {
  expect(await printed({ name: 'mill' })).toMatch(
    /^ssh-ng:\/\/localhost\?remote-program=ssh%20mill-shared%20nix-daemon x86_64-linux - /,
  );
  const config = await printed({ name: 'mill', host: 'mill.example', format: 'ssh-config' });
  expect(config).toContain('Host mill mill-shared\n  HostName mill.example\n');
  expect(config).toContain('Host mill-shared\n  ControlMaster auto\n');
});

test('rejects names that ssh_config cannot hold', async () => {
  for (const name of ['', 'two words', 'a\nProxyCommand id', '*', '-x'])
    await expect(printed({ name })).rejects.toMatchObject({ code: 'NAME_UNUSABLE' });
  await expect(printed({ host: '"' })).rejects.toMatchObject({ code: 'NAME_UNUSABLE' });
});

test('warns of an address that other hosts cannot reach', async () => {
  expect((await output({}, '127.0.0.1:31122')).warning).toContain(
    'only this host itself reaches the ssh door',
  );
  const named = await output({ host: 'mill.example' }, '127.0.0.1:31122');
  expect(named.warning).toContain('mill.example reaches only if its port is forwarded');
  expect((await output({ host: 'mill.example' })).warning).toBeUndefined();
  expect((await output({ host: '127.0.0.1' })).warning).toContain('only this host itself');
  expect((await output({})).warning).toBeUndefined();
});

test('omits systems that guests on this host cannot build, even if the configuration names them', async () => {
  const text = 'stateDir: /nowhere\nsystems: [x86_64-linux, aarch64-linux]\n';
  const config = parseConfig(text, 'drover.yaml', { env: {}, uid: 0, home: '/root' });
  const options = {
    door: 'socket',
    format: 'machines',
    identity: undefined,
    host: undefined,
    name: 'x',
  } as const;
  const { text: line } = await machines(config, options, SOURCES);
  expect(line.split(' ')[1]).toBe('x86_64-linux');
});
