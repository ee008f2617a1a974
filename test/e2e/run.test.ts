import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chown,
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { MAIN, startDrover, type Drover } from '../support/drover.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil, within } from '../support/wait.js';

const FOREIGN = 'aarch64';
/** Beginning of an ELF program for that machine. */
const FOREIGN_ELF = Buffer.from('7f454c46020101000000000000000000' + '0200b700', 'hex');

describeE2e('a program of the store in a guest of its own', [], () => {
  let drover: Drover;
  let dir: string;
  /** Store path of busybox under the names of its applets. */
  let tools: string;
  beforeAll(async () => {
    dir = await mkdtemp('/tmp/run-');
    const bin = join(dir, 'tools/bin');
    await mkdir(bin, { recursive: true });
    const { stdout: busybox } = await execa('which', ['busybox']);
    await copyFile(busybox, join(bin, 'busybox'));
    for (const applet of ['sh', 'cat', 'readlink']) await symlink('busybox', join(bin, applet));
    await writeFile(join(bin, FOREIGN), Buffer.concat([FOREIGN_ELF, Buffer.alloc(100)]), { mode: 0o755 });
    await writeFile(join(bin, 'salt'), dir);
    tools = (await execa('nix-store', ['--add', join(dir, 'tools')])).stdout;
    drover = await startDrover({ config: { pool: { maxGuests: 1 } } });
  });
  afterAll(async () => {
    await drover[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  });

  function words(...args: string[]): string[] {
    return [MAIN, '--config', drover.configFile, 'run', ...args];
  }

  async function run(args: readonly string[], options: { input?: string; cwd?: string } = {}) {
    const result = await execa(process.execPath, words(...args), { ...options, reject: false });
    const { exitCode, stdout, stderr } = result;
    await noProgram();
    return { exitCode, stdout, stderr };
  }

  /** A guest ends after its client, and their number is limited. */
  async function noProgram(): Promise<void> {
    await waitUntil('the end of the guest', async () => (await drover.status()).programs.length === 0);
  }

  async function refused(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await run(args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    return stderr;
  }

  test('found through a link, has its arguments, outputs and exit status, and leaves no guest', async () => {
    const link = join(dir, 'result');
    await symlink(tools, link);
    const script = 'echo "$0 $1 $#"; echo bad >&2; exit 6';
    expect(await run(['./result/bin/sh', '-c', script, 'x', '--json', '-f'], { cwd: dir })).toEqual({
      ...{ exitCode: 6, stdout: 'x --json 2', stderr: 'bad' },
    });
    expect((await drover.status()).guests).toEqual([]);
  });

  test('passes 50 MB through, unchanged', async () => {
    const bytes = randomBytes(50_000_000);
    const { stdout } = await execa(process.execPath, words(`${tools}/bin/cat`), {
      ...{ input: bytes, encoding: 'buffer', maxBuffer: 100_000_000 },
    });
    expect(bytes.equals(stdout)).toBe(true);
  });

  test('gets SIGINT, and says how it was killed by its exit status', async () => {
    const start = (script: string) => {
      const child = spawn(process.execPath, words(`${tools}/bin/sh`, '-c', script), { stdio: 'pipe' });
      return { child, ended: once(child, 'close'), begun: once(child.stdout, 'data') };
    };
    const handler = start('trap "exit 9" INT; echo begun; while :; do sleep 0.1; done');
    await within('its beginning', handler.begun);
    handler.child.kill('SIGINT');
    expect((await within('its end', handler.ended))[0]).toBe(9);
    await noProgram();
    const victim = start('echo begun; exec sleep 86399');
    await within('its beginning', victim.begun);
    expect((await drover.cli('status')).stdout).toMatch(/^g\d+ is the guest of drover run tools\/bin\/sh$/m);
    expect(await drover.status()).toMatchObject({ guests: [], programs: [{ program: 'tools/bin/sh' }] });
    victim.child.kill('SIGTERM');
    expect((await within('its end', victim.ended))[0]).toBe(128 + 15);
  });

  test('has a bound directory, whose owner owns what it makes there, and not the rest of the host', async () => {
    const bound = join(dir, 'bound');
    await mkdir(bound);
    await chown(bound, 4711, 4712);
    await writeFile(join(bound, 'in'), 'given\n');
    const script = `pwd; cat in; id -u; echo made > out; chmod 4755 out; ls ${dir}`;
    const { stdout, exitCode } = await run(['--bind', '.', `${tools}/bin/sh`, '-c', script], { cwd: bound });
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: `${bound}\ngiven\n0\nbound` });
    expect(await readFile(join(bound, 'out'), 'utf8')).toBe('made\n');
    expect(await stat(join(bound, 'out'))).toMatchObject({ uid: 4711, gid: 4712 });
    const write = ['--bind', `${bound}:ro`, `${tools}/bin/sh`, '-c', `echo x > ${bound}/out`];
    expect((await run(write)).stderr).toContain('Read-only file system');
    expect(await refused('--bind', '/nix', `${tools}/bin/sh`)).toContain(
      '/nix cannot be bound: a guest has its own',
    );
    expect(await refused('--bind', join(dir, 'absent'), `${tools}/bin/sh`)).toContain('cannot be bound');
  });

  test('has no network if that is asked for', async () => {
    const devices = ['-c', 'cd /sys; cat /proc/net/dev'];
    const { stdout } = await run(['--network', 'none', `${tools}/bin/sh`, ...devices]);
    expect(
      stdout
        .split('\n')
        .slice(2)
        .map((line) => line.trim().split(':')[0]),
    ).toEqual(['lo']);
    // Its devices come and go.
    const which = ['/proc/self/ns/net'];
    const { stdout: seen } = await run(['--network', 'host', `${tools}/bin/readlink`, ...which]);
    expect(seen).toBe(await readlink('/proc/self/ns/net'));
  });

  test('is no machine: drover vm says which driver has some', async () => {
    const { exitCode, stderr } = await drover.cli('vm', '.');
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringMatching(
        /The namespace driver has no virtual machines\n.*Set driver to qemu/,
      ) as unknown,
    });
  });

  test('is refused, with the reason, if it cannot run', async () => {
    const absent = `/nix/store/${'0'.repeat(32)}-absent/bin/x`;
    expect(await refused(absent)).toContain("is not valid in this host's store");
    expect(await refused(`${tools}/bin/${FOREIGN}`)).toMatch(
      /is a program for aarch64-linux; guests here run/,
    );
    expect(await refused('--system', 'aarch64-linux', `${tools}/bin/sh`)).toContain('not for aarch64-linux');
    expect(await refused(`${tools}/bin`)).toContain('is a directory');
    expect(await refused(`${tools}/bin/nothing`)).toContain('cannot be read');
    expect(await refused('/bin/sh')).toContain('/bin/sh is not in the store');
    expect(await refused('./nothing')).toContain('cannot be found');
  });
});
