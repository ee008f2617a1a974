import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { loadImage, requireNoShare } from '../../../src/drivers/vm/image.js';

const KERNEL = Buffer.alloc(0x300);
KERNEL.write('ARMd', 0x38, 'latin1');
const sha256 = (content: Buffer | string): string => createHash('sha256').update(content).digest('hex');

const MANIFEST = {
  generation: 'abc',
  nixVersion: '2.26.3',
  protocol: { major: 1, minor: 38, features: [] },
  systems: ['armv7l-linux', 'aarch64-linux'],
  architecture: 'aarch64',
  kernel: { path: 'kernel', sha256: sha256(KERNEL) },
  initrd: { path: 'initrd' },
  commandLine: 'quiet',
};

describe('the manifest of an image', () => {
  let directory: string;
  let file: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'image-'));
    file = join(directory, 'manifest.json');
    await writeFile(join(directory, 'kernel'), KERNEL);
    await writeFile(join(directory, 'initrd'), 'an initrd');
    await writeFile(join(directory, 'empty'), '');
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  const load = async (manifest: unknown) => {
    await writeFile(file, typeof manifest === 'string' ? manifest : JSON.stringify(manifest));
    return await loadImage(file);
  };
  const unusable = (why: string | RegExp) =>
    expect.objectContaining({ code: 'IMAGE_UNUSABLE', message: expect.stringMatching(why) as unknown });

  test('paths are beside it, and its own system comes first', async () => {
    expect(await load(MANIFEST)).toMatchObject({
      kernel: join(directory, 'kernel'),
      initrd: join(directory, 'initrd'),
      systems: ['aarch64-linux', 'armv7l-linux'],
      shell: undefined,
    });
  });

  test.each([
    ['no JSON', '{', /it is not JSON/],
    ['nothing in it', {}, /generation: .*nixVersion: /],
    ['an unknown architecture', { ...MANIFEST, architecture: 'vax' }, /architecture: /],
    [
      'a system that is not its own',
      { ...MANIFEST, systems: ['x86_64-linux'] },
      /its systems lack aarch64-linux/,
    ],
    [
      'a kernel that is not there',
      { ...MANIFEST, kernel: { path: 'none' } },
      /its kernel .*none cannot be read/,
    ],
    [
      'a damaged initrd',
      { ...MANIFEST, initrd: { path: 'initrd', sha256: sha256('another') } },
      /its initrd .*is damaged/,
    ],
    [
      'a kernel for another architecture',
      { ...MANIFEST, architecture: 'x86_64', systems: ['x86_64-linux'] },
      /it says x86_64, but its kernel .*is for aarch64/,
    ],
    [
      'several mistakes: all of them are told',
      { ...MANIFEST, architecture: 'vax', protocol: { major: 1, minor: '38', features: [] } },
      /protocol\.minor: .*architecture: /,
    ],
    ['an initrd that is empty', { ...MANIFEST, initrd: { path: 'empty' } }, /its initrd .*empty is empty/],
    [
      'a kernel that is a directory',
      { ...MANIFEST, kernel: { path: '.' } },
      /its kernel .* is not an ordinary file/,
    ],
    ['a command line of two lines', { ...MANIFEST, commandLine: 'a\nb' }, /commandLine: /],
    ['a command line with a return', { ...MANIFEST, commandLine: 'a\rb' }, /commandLine: /],
    ['a shell that is settings for Nix', { ...MANIFEST, shell: '/bin/sh\nsandbox = false' }, /shell: /],
    ['a shell with a space', { ...MANIFEST, shell: '/bin/my sh' }, /shell: /],
    [
      'something other than a system',
      { ...MANIFEST, systems: ['aarch64-linux', 'i686'] },
      /systems: i686 is no Nix system/,
    ],
    [
      'something other than a version',
      { ...MANIFEST, nixVersion: 'latest' },
      /nixVersion: latest is not a version/,
    ],
    [
      'a Nix that is too old',
      { ...MANIFEST, nixVersion: '2.3.16', protocol: { major: 1, minor: 21, features: [] } },
      /its Nix 2\.3\.16 speaks worker protocol 1\.21, and Drover takes 1\.32 or a later 1\.x \(Nix 2\.4 or later\)/,
    ],
    [
      'a protocol that is not known',
      { ...MANIFEST, protocol: { major: 2, minor: 40, features: [] } },
      /speaks worker protocol 2\.40/,
    ],
  ])('with %s cannot be used', async (_, manifest, why) => {
    await expect(load(manifest)).rejects.toEqual(unusable(why));
  });

  test('whose system is in the store must find it there, and can be used only where the store is shared', async () => {
    const image = await load({ ...MANIFEST, system: directory });
    expect(image).toMatchObject({ system: directory });
    expect(() => {
      requireNoShare(file, image);
    }).toThrow(`its system ${directory} is in the host's store, which is not shared with guests here`);
    await expect(load({ ...MANIFEST, system: join(directory, 'none') })).rejects.toEqual(
      unusable(/its system .*none cannot be read/),
    );
    await expect(load({ ...MANIFEST, system: 'relative' })).rejects.toEqual(unusable(/system: /));
  });

  test('that has its system in its initrd can be used where nothing is shared', async () => {
    requireNoShare(file, await load(MANIFEST));
  });

  test('that is not there', async () => {
    await expect(loadImage(file)).rejects.toEqual(unusable(/there is no such file/));
  });
});
