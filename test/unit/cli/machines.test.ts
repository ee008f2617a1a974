import { expect, test } from '@jest/globals';

import { machines, type MachinesOptions } from '../../../src/cli/commands/machines.js';
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

async function printed(options: Partial<MachinesOptions>, listen = '10.0.0.1:31122'): Promise<string> {
  const text = `stateDir: /nowhere\ndoors: { ssh: { listen: "${listen}", authorizedKeys: ["${KEY}"] } }\n`;
  const config = parseConfig(text, 'drover.yaml', { env: {}, uid: 0, home: '/root' });
  return await machines(
    config,
    { door: 'ssh', format: 'machines', identity: undefined, ...options },
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

test('a key file is named from the root: Nix runs ssh in a directory of its own', async () => {
  expect(await printed({ identity: 'id_ed25519' })).toContain(' /home/me/id_ed25519 ');
  expect(await printed({ identity: '/k/id', format: 'ssh-config' })).toContain('  IdentityFile "/k/id"\n');
});

test("a space in a key file's name is quoted for ssh, and refused where Nix could not tell it from the next field", async () => {
  expect(await printed({ identity: '/k/my id', format: 'ssh-config' })).toContain(
    '  IdentityFile "/k/my id"\n',
  );
  for (const format of ['machines', 'nix.conf'] as const) {
    await expect(printed({ identity: '/k/my id', format })).rejects.toMatchObject({
      code: 'IDENTITY_UNUSABLE',
      message: expect.stringContaining('/k/my id'),
      hint: expect.stringContaining('ssh-config'),
    });
  }
});

test('omits systems that guests on this host cannot build, even if the configuration names them', async () => {
  const text = 'stateDir: /nowhere\nsystems: [x86_64-linux, aarch64-linux]\n';
  const config = parseConfig(text, 'drover.yaml', { env: {}, uid: 0, home: '/root' });
  const line = await machines(config, { door: 'socket', format: 'machines', identity: undefined }, SOURCES);
  expect(line.split(' ')[1]).toBe('x86_64-linux');
});
