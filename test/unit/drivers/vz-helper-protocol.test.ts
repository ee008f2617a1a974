import { describe, expect, test } from '@jest/globals';

import { helperConfigurationSchema } from '../../../src/drivers/vz/helper-protocol.js';

const config = {
  kernel: '/k',
  initrd: '/i',
  commandLine: '',
  cpus: 1,
  memoryBytes: 1024 ** 2,
  disks: [{ path: '/d', readOnly: false, identifier: 'scratch' }],
  shares: [{ tag: 'store', path: '/nix/store', readOnly: true }],
  rosetta: { tag: 'rosetta', cache: { path: '/r' } },
  network: { mac: '52:54:00:aB:cD:01' },
  console: { path: '/c', maxBytes: 4096 },
  vsock: { path: '/v' },
  nested: false,
};

describe('what configure takes', () => {
  test.each([
    {},
    { rosetta: null, network: null, disks: [], shares: [] },
    { rosetta: { tag: 'r', cache: null } },
    { commandLine: 'x'.repeat(2047), kernel: `/${'k'.repeat(1022)}` },
    { vsock: { path: `/${'v'.repeat(102)}` }, console: { path: '/c', maxBytes: 1024 ** 3 } },
    { shares: Array.from({ length: 32 }, (_, n) => ({ tag: `t${n}`, path: '/', readOnly: true })) },
    { shares: [{ tag: 'ü'.repeat(17), path: '/', readOnly: true }] },
  ])('good: %j', (changes) => {
    expect(helperConfigurationSchema.safeParse({ ...config, ...changes }).error).toBeUndefined();
  });

  test.each([
    ['kernel', { kernel: 'relative' }],
    ['kernel', { kernel: '/a\0b' }],
    ['kernel', { kernel: `/${'k'.repeat(1023)}` }],
    ['kernel', { kernel: '/\ud800' }],
    ['commandLine', { commandLine: 'a\nb' }],
    ['commandLine', { commandLine: 'ü'.repeat(1024) }],
    ['cpus', { cpus: 0 }],
    ['cpus', { cpus: '4' }],
    ['memoryBytes', { memoryBytes: 1024 ** 2 + 1 }],
    ['memoryBytes', { memoryBytes: 0 }],
    ['disks.0', { disks: [{ ...config.disks[0], more: true }] }],
    ['disks.0.identifier', { disks: [{ ...config.disks[0], identifier: 'with space' }] }],
    ['disks.0.identifier', { disks: [{ ...config.disks[0], identifier: 'a/b' }] }],
    ['disks.0.identifier', { disks: [{ ...config.disks[0], identifier: 'x'.repeat(21) }] }],
    ['disks', { disks: Array.from({ length: 17 }, () => config.disks[0]) }],
    ['shares.0.tag', { shares: [{ ...config.shares[0], tag: 'ü'.repeat(18) }] }],
    ['shares', { shares: [config.shares[0], config.shares[0]] }],
    ['shares', { shares: [{ ...config.shares[0], tag: 'rosetta' }] }],
    ['rosetta', { rosetta: true }],
    ['rosetta.cache.path', { rosetta: { tag: 'r', cache: { path: `/${'p'.repeat(107)}` } } }],
    ['rosetta.cache', { rosetta: { tag: 'r', cache: '/r' } }],
    ['network.mac', { network: { mac: '53:54:00:00:00:01' } }],
    ['network.mac', { network: { mac: '52-54-00-00-00-01' } }],
    ['console.maxBytes', { console: { path: '/c', maxBytes: 4095 } }],
    ['vsock.path', { vsock: { path: `/${'v'.repeat(103)}` } }],
    ['nested', { nested: null }],
    ['', { unheardOf: 1 }],
  ])('bad: %s in %.80j', (key, changes) => {
    const { error } = helperConfigurationSchema.safeParse({ ...config, ...changes });
    expect(error?.issues[0]?.path.join('.')).toBe(key);
  });
});
