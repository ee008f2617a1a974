import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { beforeAll, expect, test } from '@jest/globals';

import { run } from '../../src/lib/process.js';
import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper } from '../support/vz-helper.js';

const SOURCE = join(REPOSITORY, 'vz-helper');
/** Load commands of Mach-O, from <mach-o/loader.h>. */
const LC_LOAD_DYLIB = 0xc;
const LC_BUILD_VERSION = 0x32;

describeWith('what is checked of vz-helper without a Mac', ['vz-helper'], () => {
  beforeAll(async () => {
    await buildVzHelper();
  });

  test('the program for Apple silicon: architecture, least macOS, frameworks', async () => {
    const file = await readFile(join(REPOSITORY, '.cache/vz-helper/vz-helper.macho'));
    expect(file.readUInt32LE(0)).toBe(0xfeedfacf);
    expect(file.readUInt32LE(4)).toBe(0x0100000c); // arm64
    const libraries: string[] = [];
    let leastMacos: number | undefined;
    for (let at = 32, left = file.readUInt32LE(16); left > 0; left--) {
      const command = file.readUInt32LE(at);
      const size = file.readUInt32LE(at + 4);
      if (command === LC_LOAD_DYLIB)
        libraries.push(
          file
            .toString('latin1', at + file.readUInt32LE(at + 8), at + size)
            .replace(/\0.*$/s, '')
            .replace(/^.*\//, ''),
        );
      if (command === LC_BUILD_VERSION) leastMacos = file.readUInt32LE(at + 12) >> 16;
      at += size;
    }
    expect(leastMacos).toBe(13);
    expect(libraries.sort()).toEqual(
      [
        ...['CoreFoundation', 'Foundation', 'IOKit', 'Security', 'Virtualization'],
        ...['libSystem.B.dylib', 'libobjc.A.dylib'],
      ].sort(),
    );
  });

  test.each([
    [
      'what only a later macOS has',
      'src/host.m',
      'if (@available(macOS 15.0, *)) return',
      'return',
      /is only available on macOS 15\.0 or newer/,
    ],
    [
      'a wrong type',
      'src/guest.m',
      'startWithCompletionHandler:^(NSError *failure)',
      'startWithCompletionHandler:^(NSString *failure)',
      /incompatible/,
    ],
    ['a leak', 'src/relay.c', '  free(out.buffer);\n', '', /leak/],
  ])('it finds %s', async (_, file, from, to, finding) => {
    const copy = await mkdtemp(join(tmpdir(), 'vz-'));
    await cp(SOURCE, copy, { recursive: true });
    const text = await readFile(join(copy, file), 'utf8');
    expect(text).toContain(from);
    await writeFile(join(copy, file), text.replace(from, to));
    const { exitCode, stdout, stderr } = await run('sh', [
      join(copy, 'check.sh'),
      join(copy, 'out'),
      join(REPOSITORY, '.cache/darwin-headers'),
    ]);
    expect(exitCode).not.toBe(0);
    expect(`${stdout}${stderr}`).toMatch(finding);
    await rm(copy, { recursive: true });
  });

  test.each(['drover-connect', 'drover-hook'])(
    '%s, which Nix starts, is a program for macOS, too',
    async (name) => {
      const { exitCode, stderr } = await run('clang-14', [
        ...['-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-target', 'arm64-apple-macos13', '-nostdlibinc'],
        ...['-isystem', join(REPOSITORY, '.cache/darwin-headers/include')],
        join(REPOSITORY, `connect/${name}.c`),
      ]);
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    },
  );

  test('it does nothing where nothing has changed', async () => {
    const trace = await run('sh', ['-x', join(SOURCE, 'check.sh')]);
    expect(trace.exitCode).toBe(0);
    expect(trace.stderr).not.toMatch(/clang/);
  });

  test('the helper is signed for virtualization, and for nothing else', async () => {
    const plist = await readFile(join(SOURCE, 'entitlements.plist'), 'utf8');
    const { stdout } = await run(
      'python3',
      ['-c', 'import json, plistlib, sys; print(json.dumps(plistlib.loads(sys.stdin.buffer.read())))'],
      { input: plist },
    );
    expect(JSON.parse(stdout)).toEqual({ 'com.apple.security.virtualization': true });
    for (const file of ['Makefile', 'default.nix'])
      expect(await readFile(join(SOURCE, file), 'utf8')).toMatch(
        /codesign -f -s - --entitlements entitlements\.plist/,
      );
  });

  test('one version everywhere', async () => {
    const versions = await Promise.all(
      ['package.json', 'vz-helper/default.nix', 'vz-helper/src/host.m'].map(
        async (file) =>
          /(?:"version": |version = |Version = @)"([^"]+)"/.exec(
            await readFile(join(REPOSITORY, file), 'utf8'),
          )?.[1],
      ),
    );
    expect(versions[0]).toMatch(/^\d/);
    expect(new Set(versions).size).toBe(1);
  });
});
