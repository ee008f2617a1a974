import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { featureNeeds, hostSettings } from '../../src/drivers/namespace/host-settings.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'drover-settings-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

describe('settings that name files of the host', () => {
  test('name copies in guests instead, but for files of the store', async () => {
    const [netrc, key] = [join(dir, 'netrc'), join(dir, 'key')];
    for (const file of [netrc, key]) await writeFile(file, 'secret');
    const given = { 'netrc-file': netrc, 'secret-key-files': `/nix/store/x-key ${key}`, timeout: '3' };
    expect(await hostSettings(given)).toEqual({
      nixConf: {
        'netrc-file': '/etc/nix/netrc',
        'secret-key-files': '/nix/store/x-key /etc/nix/secret-key-1',
        timeout: '3',
      },
      sources: { 'nix/netrc': netrc, 'nix/secret-key-1': key },
      warnings: [],
    });
  });

  test('are rejected if the file cannot be read', async () => {
    await expect(hostSettings({ 'ssl-cert-file': join(dir, 'none') })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`ssl-cert-file names ${join(dir, 'none')}`) as unknown,
    });
  });

  test('are warned about if they name a path that guests do not have', async () => {
    const { warnings } = await hostSettings({
      'extra-sandbox-paths': '/usr/bin/env=/nix/store/x/bin/env /bin/sh=/bin/busybox /opt/tool /opt/perhaps?',
    });
    expect(warnings).toEqual([expect.stringContaining('extra-sandbox-paths names /opt/tool,')]);
  });
});

describe('system features', () => {
  test('that are only names need nothing', async () => {
    expect(await featureNeeds(['big-parallel', 'gccarch-skylake'], '2.8.0')).toEqual({
      kvm: false,
      uidRange: false,
      experimental: [],
    });
  });

  test('that the host or its Nix cannot serve are rejected with the reason', async () => {
    const rejected = async (feature: string, nix: string, why: string): Promise<void> => {
      await expect(featureNeeds([feature], nix)).rejects.toMatchObject({
        code: 'REQUIREMENT_MISSING',
        message: expect.stringContaining(why) as unknown,
      });
    };
    await rejected('uid-range', '2.8.0', 'Nix 2.8.0 has no auto-allocate-uids');
    await rejected('apple-virt', '2.34.0', 'guests run Linux');
    if (!existsSync('/dev/kvm')) await rejected('kvm', '2.34.0', 'this host has no /dev/kvm');
  });

  test('bring the experimental features that they need', async () => {
    expect(await featureNeeds(['uid-range', 'recursive-nix'], '2.34.0')).toMatchObject({
      uidRange: true,
      experimental: ['auto-allocate-uids', 'cgroups', 'recursive-nix'],
    });
  });
});
