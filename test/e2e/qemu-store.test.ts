import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { MAIN, type Drover } from '../support/drover.js';
import { outerAddress, serveText } from '../support/http.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import {
  onlyGuest,
  openDescriptors,
  processesOf,
  ROOT_BUILDS,
  startVmDrover,
  VM_DEADLINE_MS,
} from '../support/vms.js';
import { waitUntil, within } from '../support/wait.js';

const PARALLEL_BUILDS = 64;
/** More files in all than a virtiofsd keeps open for its guest. */
const DIRECTORIES = 30;
const FILES_PER_DIRECTORY = 1_000;
/**
 * Milliseconds. An emulated guest opens and reads a thousand files of its host in a second, if nothing else
 * runs.
 */
const READ_DEADLINE_MS = 900_000;
/** Descriptors that a virtiofsd may have open when its guest has looked at any number of files. */
const MAX_DESCRIPTORS = 1_000;

describeE2e("the host's store in a VM", ['vms'], () => {
  let drover: Drover;
  let host: NixHost;

  beforeAll(async () => {
    drover = await startVmDrover({
      guest: ROOT_BUILDS,
      pool: { maxGuests: 1, jobsPerGuest: PARALLEL_BUILDS },
    });
    host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
  });

  /** Adds a file or a directory to the host's store, without a guest. */
  async function add(path: string): Promise<string> {
    return succeeded(await host.run('nix-store', ['--add', path])).stdout.trim();
  }

  async function addText(name: string, text: string): Promise<string> {
    return await add(await host.writeFile(`${host.id}-${name}`, text));
  }

  /** Builds with a store path as an input: what the script prints into its output. */
  async function buildWith(input: string, name: string, script: string, attributes = ''): Promise<string> {
    const expression = host.derivation(name, script, `input = builtins.storePath ${input}; ${attributes}`);
    const { outputs } = succeeded(await host.build(expression));
    return await readFile(outputs[0] ?? '', 'utf8');
  }

  async function cli(args: readonly string[], options: { input?: string } = {}) {
    const words = [MAIN, '--config', drover.configFile, ...args];
    const { exitCode, stdout, stderr } = await execa(process.execPath, words, { ...options, reject: false });
    return { exitCode, stdout, stderr };
  }

  /** Open files of a virtiofsd that keeps them open; others have no such number. */
  async function mostOpenFiles(): Promise<number> {
    const warnings = (await drover.status()).warnings.join('\n');
    return Number(/can have only (\d+) files open/.exec(warnings)?.[1] ?? Infinity);
  }

  test(
    "root in the guest reaches other machines, but not the host's loopback or link-local addresses",
    async () => {
      await using loopback = await serveText('secret');
      await using outer = await serveText('outer ', outerAddress());
      const port = new URL(loopback.url).port;
      const addresses = ['10.0.2.2', '10.0.2.3', '[fec0::2]', '[::ffff:127.0.0.1]'];
      const urls = [...addresses.map((address) => `http://${address}:${port}/`), 'http://169.254.169.254/'];
      const tryOf = (url: string, seconds: number): string =>
        `wget -q -T ${seconds} -O - ${url} && echo "reached ${url}"`;
      const tries = [tryOf(outer.url, 60), ...urls.map((url) => tryOf(url, 3))];
      // With routes of its own, and outside of the sandbox.
      const script = `until ip route | grep -q default; do sleep 1; done
        ip route add 169.254.0.0/16 via 10.0.2.2; { ${tries.join('; ')}; } > $out; [ -s $out ]`;
      const said = await buildWith(await addText('nothing', ''), 'network', script, '__noChroot = true;');
      expect(said).toBe(`outer reached ${outer.url}\n`);
      expect(loopback.requests()).toBe(0);
    },
    VM_DEADLINE_MS,
  );

  test(
    'a path that the guest looked up before the host had it is seen after one registration',
    async () => {
      const first = await addText('first', 'first');
      const late = await addText('late', 'late');
      await host.deletePaths(late);
      // As root of the guest, outside of the sandbox: in the mount that all builds get their inputs from.
      const seen = await buildWith(
        first,
        'look',
        `[ -e ${late} ] && echo there > $out || echo missing > $out`,
        '__noChroot = true;',
      );
      expect(seen).toBe('missing\n');
      expect(await addText('late', 'late')).toBe(late);
      expect(await buildWith(late, 'late', 'cat $input > $out')).toBe('late');
      expect((await drover.status()).totals).toMatchObject({ copiedPaths: 0, guestsBooted: 1 });
    },
    VM_DEADLINE_MS,
  );

  test(
    'a path that the host collected and has again',
    async () => {
      const path = await addText('again', 'again');
      const registered = Math.floor(Date.now() / 1000);
      const expression = host.derivation(
        'again-1',
        'cat $input > $out',
        `input = builtins.storePath ${path};`,
      );
      const { outputs } = succeeded(await host.build(expression));
      const { stdout } = succeeded(await host.run('nix-store', ['-q', '--deriver', outputs[0] ?? '']));
      await host.deletePaths(...outputs, stdout.trim(), path);
      expect(existsSync(path)).toBe(false);
      // Nix tells the second from the first by the time of its registration, which is in whole seconds.
      await waitUntil('the next second', () => Math.floor(Date.now() / 1000) > registered);
      expect(await addText('again', 'again')).toBe(path);
      expect(await buildWith(path, 'again-2', 'cat $input > $out')).toBe('again');
    },
    VM_DEADLINE_MS,
  );

  test(
    'a path with names of the case hack is shared as it is, on a host that does not use it',
    async () => {
      const directory = join(await host.writeFile('x', ''), `../${host.id}-case`);
      await mkdir(directory);
      await writeFile(join(directory, 'File'), 'upper');
      await writeFile(join(directory, 'file~nix~case~hack~1'), 'lower');
      const before = (await drover.status()).totals.copiedPaths;
      const script = 'cat $input/File $input/file~nix~case~hack~1 > $out';
      expect(await buildWith(await add(directory), 'case', script)).toBe('upperlower');
      expect((await drover.status()).totals.copiedPaths).toBe(before);
    },
    VM_DEADLINE_MS,
  );

  test(
    "the host's lock of the output stays what it is",
    async () => {
      // The build goes on once it sees this in the host's store.
      const go = `${host.id}-go`;
      const script = `echo "out: $out"; echo "it has begun"
      until /bin/ls /run/host | /bin/grep -q -- '-${go}$'; do /bin/sleep 0.05; done; echo > $out`;
      const client = host.startBuild(host.derivation('locked', script, '__noChroot = true;'));
      await client.waitForOutput('it has begun', VM_DEADLINE_MS);
      const output = /^out: (.*)$/m.exec(client.stderr)?.[1] ?? '';
      expect(existsSync(`${output}.lock`)).toBe(true);
      await addText('go', '');
      succeeded(await client.ended);
    },
    VM_DEADLINE_MS,
  );

  test(
    `${PARALLEL_BUILDS} builds at the same time that read the same paths`,
    async () => {
      const { failedBuilds } = (await drover.status()).totals;
      const input = await addText('shared', 'shared');
      const leaves = Array.from({ length: PARALLEL_BUILDS }, (_, index) =>
        host.derivation(`leaf-${index}`, 'cat $input > $out', `input = builtins.storePath ${input};`),
      );
      const root = host.derivation(
        'root',
        'for leaf in $leaves; do cat $leaf; done > $out',
        `leaves = [ ${leaves.join(' ')} ];`,
      );
      const { outputs } = succeeded(await host.build(root));
      expect(await readFile(outputs[0] ?? '', 'utf8')).toBe('shared'.repeat(PARALLEL_BUILDS));
      expect((await drover.status()).totals).toMatchObject({ failedBuilds, guestsBooted: 1 });
    },
    2 * VM_DEADLINE_MS,
  );

  test(
    `a build that reads ${DIRECTORIES * FILES_PER_DIRECTORY} files`,
    async () => {
      const directory = join(await host.writeFile('y', ''), `../${host.id}-many`);
      for (let i = 0; i < DIRECTORIES; i++) {
        await mkdir(join(directory, String(i)), { recursive: true });
        const files = Array.from({ length: FILES_PER_DIRECTORY }, (_, j) => join(directory, `${i}/${j}`));
        await Promise.all(files.map((file) => writeFile(file, `${i}\n`)));
      }
      // By ten readers at once: one alone would mostly wait for the host.
      const reader =
        'n=0; for file in $input/*$i/*; do read -r line < $file && n=$((n + 1)); done; echo $n >> counts';
      const script = `for i in 0 1 2 3 4 5 6 7 8 9; do { ${reader}; } & done; wait
        total=0; while read -r n; do total=$((total + n)); done < counts; echo $total > $out`;
      const input = await add(directory);
      const client = host.startBuild(host.derivation('many', script, `input = builtins.storePath ${input};`));
      const result = await within('the end of the build', client.ended, READ_DEADLINE_MS);
      const openFiles = await mostOpenFiles();
      if (openFiles < 1.1 * DIRECTORIES * FILES_PER_DIRECTORY) {
        // The store is on an overlay, as in a container, and this limit is documented: it must not go unnoticed.
        expect(result.stderr).toContain('it looked at more files of the shared store than');
        expect(result.exitCode).not.toBe(0);
        return;
      }
      const { stdout } = succeeded(result);
      expect(await readFile(stdout.trim(), 'utf8')).toBe(`${DIRECTORIES * FILES_PER_DIRECTORY}\n`);
      if (openFiles !== Infinity) return;
      for (const pid of await processesOf(drover.stateDir, await onlyGuest(drover), 'virtiofsd')) {
        expect(await openDescriptors(pid)).toBeLessThan(MAX_DESCRIPTORS);
      }
    },
    READ_DEADLINE_MS + VM_DEADLINE_MS,
  );

  test(
    'has logs of its builds and of its console',
    async () => {
      const expression = host.derivation('logged', 'echo "said in a VM"; echo > $out');
      const { stderr } = succeeded(await host.build(expression));
      const [, build = '', guest = ''] = /build (b\d+) in guest (g\d+)/.exec(stderr) ?? [];
      expect((await cli(['logs', build])).stdout).toBe('said in a VM');
      expect(await cli(['logs', guest])).toMatchObject({ exitCode: 0, stderr: '' });
    },
    VM_DEADLINE_MS,
  );

  test(
    'is entered by drover shell, with pipes and its exit status',
    async () => {
      const input = 'id -u; ls -d /nix/store; echo bad >&2; exit 7';
      expect(await cli(['shell'], { input })).toEqual({
        ...{ exitCode: 7, stdout: '0\n/nix/store', stderr: 'bad' },
      });
    },
    VM_DEADLINE_MS,
  );

  // The last one: a guest that was entered takes no more builds, and ends.
  test(
    'is what drover run has in a guest of its own',
    async () => {
      await waitUntil('the end of the guest', async () => (await drover.status()).guests.length === 0);
      const tools = join(drover.stateDir, `${host.id}-tools`);
      await mkdir(tools);
      await copyFile((await execa('which', ['busybox'])).stdout, join(tools, 'busybox'));
      await symlink('busybox', join(tools, 'sh'));
      const shell = `${await add(tools)}/sh`;
      const script = 'read -r line; echo "$1: $line"; echo bad >&2; exit 6';
      const result = await cli(['run', '--', shell, '-c', script, 'sh', 'told'], { input: 'words\n' });
      expect(result).toEqual({ exitCode: 6, stdout: 'told: words', stderr: 'bad' });
    },
    VM_DEADLINE_MS,
  );
});
