import { mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { REPOSITORY } from '../support/drover.js';
import { ownStore } from '../support/nix.js';
import { describeWith } from '../support/requirements.js';

/** An image of one system, which refers to one more path. */
const IMAGE = `let
  make = name: script: derivation {
    inherit name; system = builtins.currentSystem; builder = "/bin/sh";
    args = [ "-c" "PATH=/usr/bin:/bin; mkdir $out; \${script}" ];
  };
  tool = make "tool" "echo a tool > $out/tool";
  system = make "guest-system" "echo \${tool} > $out/init";
in make "drover-guest-image" ''
  echo a kernel > $out/kernel; echo an initrd > $out/initrd
  echo '{ "system": "\${system}" }' > $out/manifest.json
''`;

/** nix/release.nix with Nix's own fetchurl, and a runCommand without nixpkgs. */
const RELEASE = `{ file }: import ${join(REPOSITORY, 'nix/release.nix')} {
  lib.importJSON = path: builtins.fromJSON (builtins.readFile path);
  fetchurl = { url, hash }: import <nix/fetchurl.nix> { inherit url hash; };
  runCommand = name: _: script: derivation {
    inherit name; system = builtins.currentSystem; builder = "/bin/sh";
    args = [ "-e" "-c" "PATH=/usr/bin:/bin; \${script}" ];
  };
  release = builtins.fromJSON (builtins.readFile file);
}`;

interface Ended {
  readonly failed: boolean;
  readonly exitCode?: number;
  readonly stdout: string;
  readonly stderr: string;
}

describeWith('a release of the guest image', ['modern-nix', 'minisign'], () => {
  let dir: string;
  let env: NodeJS.ProcessEnv;
  let server: Server;
  let url: string;
  const script = async (name: string, ...args: readonly string[]): Promise<Ended> =>
    await execa('sh', [join(REPOSITORY, name), ...args], { env, extendEnv: false, reject: false });
  const nix = async (program: string, ...args: readonly string[]): Promise<Ended> =>
    await execa(program, args, { env, extendEnv: false, reject: false, preferLocal: false });
  const at = (name: string): string => join(dir, name);
  const fetched = async (file: string): Promise<Ended> =>
    await nix('nix-build', '--out-link', at('fetched'), '-E', RELEASE, '--argstr', 'file', file);

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'release-'));
    env = await ownStore(dir);
    await execa('minisign', ['-G', '-W', '-p', at('key.pub'), '-s', at('key')]);
    env['DROVER_RELEASE_KEY'] = await readFile(at('key'), 'utf8');
    server = createServer((request, response) => {
      readFile(join(at('release'), request.url ?? '')).then(
        (bytes) => response.end(bytes),
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

    const built = await nix('nix-build', '--out-link', at('image'), '-E', IMAGE);
    expect(built).toMatchObject({ failed: false });
    expect(await script('scripts/release/pack.sh', at('image'), at('release'))).toMatchObject({
      failed: false,
    });
    expect(await script('scripts/release/sign.sh', '1.0', at('release'))).toMatchObject({ failed: false });
    // From here on it is another host, which has nothing of it.
    await execa('chmod', ['-R', 'u+w', at('store')]);
    for (const name of ['store', 'state']) await rm(at(name), { recursive: true });
  });
  afterAll(async () => {
    server.close();
    await execa('chmod', ['-R', 'u+w', dir]);
    await rm(dir, { recursive: true });
  });

  test.each(['http', 'file'])('comes to a host that has never built it, over %s', async (scheme) => {
    const place = scheme === 'http' ? url : `file://${at('release')}`;
    const pinned = at(`${scheme}.json`);
    const pin = await script('scripts/release/pin.sh', '1.0', place, at('key.pub'), pinned);
    expect(pin).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await fetched(pinned)).toMatchObject({ failed: false });
    const { system } = JSON.parse(await readFile(at('fetched/manifest.json'), 'utf8')) as { system: string };
    expect(await readFile(at('fetched/kernel'), 'utf8')).toBe('a kernel\n');

    const roots = at(`roots-${scheme}`);
    const imported = await script('nix/import-closure.sh', await readlink(at('fetched')), roots);
    expect(imported).toMatchObject({ failed: false });
    const tool = (await readFile(join(system, 'init'), 'utf8')).trim();
    expect(await nix('nix-store', '--check-validity', system, tool)).toMatchObject({ failed: false });
    expect(await readFile(join(tool, 'tool'), 'utf8')).toBe('a tool\n');
    expect((await readdir(roots)).map((name) => join(at('store'), name)).sort()).toEqual(
      [system, tool].sort(),
    );
    await symlink(at('store/before'), join(roots, 'of-the-image-before'));
    const again = await script('nix/import-closure.sh', await readlink(at('fetched')), roots);
    expect(again).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
    expect(await readdir(roots)).toHaveLength(2);
  });

  test('leaves the image before to the guests, where its own cannot be added to the store', async () => {
    const closure = at('cut/closure');
    await mkdir(closure, { recursive: true });
    await writeFile(join(closure, 'roots'), `${at('store')}/${'a'.repeat(32)}-absent\n`);
    await mkdir(at('kept'));
    await symlink(at('store/before'), at('kept/before'));
    const cut = await script('nix/import-closure.sh', at('cut'), at('kept'));
    expect(cut).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('cannot be added to the store'),
    });
    expect(await readdir(at('kept'))).toContain('before');
  });

  test('is not pinned without the signature of its key, and not used with other bytes', async () => {
    const pinned = at('pinned.json');
    await execa('minisign', ['-G', '-W', '-p', at('other.pub'), '-s', at('other')]);
    const refused = await script('scripts/release/pin.sh', '1.0', url, at('other.pub'), pinned);
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('nothing is pinned') });
    // As a server would answer that has only an older release.
    const older = await script('scripts/release/pin.sh', '2.0', url, at('key.pub'), pinned);
    expect(older).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('not version 2.0') });
    await expect(readFile(pinned)).rejects.toThrow('ENOENT');

    expect(await script('scripts/release/pin.sh', '1.0', url, at('key.pub'), pinned)).toMatchObject({
      failed: false,
    });
    await writeFile(at('release/initrd'), 'another initrd');
    // A new version of the URL, so that it is fetched again.
    await writeFile(pinned, (await readFile(pinned, 'utf8')).replaceAll(url, `${url}/.`));
    await execa('chmod', ['-R', 'u+w', at('store')]);
    for (const name of ['store', 'state']) await rm(at(name), { recursive: true });
    expect(await fetched(pinned)).toMatchObject({
      failed: true,
      stderr: expect.stringContaining('hash mismatch'),
    });
  });
});
