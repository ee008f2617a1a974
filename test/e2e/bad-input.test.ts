import { chmod, chown, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { stringify } from 'yaml';

import { EXIT } from '../../src/lib/error-codes.js';
import { REPOSITORY, runDrover, startDrover, type CliResult } from '../support/drover.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

describeE2e('what is wrong is said once, with a hint', [], () => {
  let dir = '';
  beforeEach(async () => {
    dir = await mkdtemp('/tmp/bad-');
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });

  async function serve(
    config: Readonly<Record<string, unknown>>,
    env: Readonly<Record<string, string>> = {},
  ): Promise<CliResult> {
    const file = join(dir, 'drover.yaml');
    await writeFile(file, stringify({ stateDir: join(dir, 's'), metrics: null, ...config }));
    return await runDrover(['serve', '--config', file], { env });
  }

  test.each(['ssh', 'metrics'])('a port that is already in use by another process: %s', async (what) => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const listen = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(dir, 'key')]);
    const { stdout: key } = await execa('ssh-keygen', ['-y', '-f', join(dir, 'key')]);
    const { exitCode, stderr } = await serve(
      what === 'ssh'
        ? { doors: { ssh: { listen, authorizedKeys: [key] } }, guest: { acceptVulnerableNix: true } }
        : { metrics: { listen } },
    );
    server.close();
    expect(stderr).toContain(`${listen} is already in use by another process`);
    expect(stderr).toContain('choose another address in the configuration');
    expect(exitCode).toBe(EXIT.inUse);
  });

  test('a Nix for guests that other machines could attack', async () => {
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(dir, 'other')]);
    const { stdout: key } = await execa('ssh-keygen', ['-y', '-f', join(dir, 'other')]);
    const { exitCode, stderr } = await serve({
      doors: { ssh: { listen: '127.0.0.1:0', authorizedKeys: [key] } },
    });
    expect(stderr).toContain('CVE-2024-27297');
    expect(stderr).toContain('guest.acceptVulnerableNix');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test.each(['192.0.2.1:9619', 'no-such-host.invalid:9619'])(
    'an address that is not of this host: %s',
    async (listen) => {
      const { exitCode, stderr } = await serve({ metrics: { listen } });
      expect(stderr).toContain(`drover: Cannot listen on ${listen}`);
      expect(stderr).toContain('Choose an address of this host');
      expect(exitCode).toBe(EXIT.configuration);
    },
  );

  test('a socket path that is too long, and unknown keys', async () => {
    const long = await serve({ doors: { socket: { path: `/tmp/${'x'.repeat(120)}/nix.sock` } } });
    expect(long.stderr).toContain('a Unix socket');
    expect(long.exitCode).toBe(EXIT.configuration);
    const unknown = await serve({ pool: { maxGuest: 2 }, dors: {} });
    expect(unknown.stderr).toContain('maxGuests');
    expect(unknown.stderr).toContain('doors');
    expect(unknown.exitCode).toBe(EXIT.configuration);
  });

  test('drover check tells it before anything is started, and says nothing of what is well', async () => {
    const file = join(dir, 'drover.yaml');
    await writeFile(file, 'pool: { maxGuest: 2 }\n');
    const wrong = await runDrover(['check', '--config', file]);
    expect(wrong.stderr).toContain(`${file}:1:9: pool.maxGuest: unknown key; did you mean maxGuests?`);
    expect(wrong.exitCode).toBe(EXIT.configuration);
    await writeFile(file, 'pool: { maxGuests: 2 }\n');
    expect(await runDrover(['check', '--config', file])).toEqual({ exitCode: 0, stdout: '', stderr: '' });
  });

  test.each([
    ['a file', 'file', 'a file is in its place'],
    ['below a file', 'file/s', 'a part of its path is not a directory'],
    ['a link to nowhere', 'dangling', 'a part of its path does not exist'],
    ['a link to itself', 'loop', 'its symbolic links form a loop'],
  ])('a state directory that cannot be made: %s', async (_, name, reason) => {
    await writeFile(join(dir, 'file'), '');
    await symlink(join(dir, 'nowhere/at/all'), join(dir, 'dangling'));
    await symlink(join(dir, 'loop'), join(dir, 'loop'));
    const { exitCode, stderr } = await serve({ stateDir: join(dir, name) });
    expect(stderr).toContain(`drover: The directory ${join(dir, name)} cannot be used: ${reason}\n`);
    expect(stderr).toContain('choose another stateDir');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('a state directory where the kernel allows none', async () => {
    const { exitCode, stderr } = await serve({ stateDir: '/proc/drover' });
    expect(stderr).toContain('drover: The directory /proc/drover cannot be used: ');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test("a state directory that holds other people's things, or is another user's, stays as it is", async () => {
    const shared = join(dir, 'shared');
    await mkdir(join(shared, 'theirs'), { recursive: true });
    await chmod(shared, 0o755);
    const inShared = await serve({ stateDir: shared });
    expect(inShared.stderr).toContain(`drover: The directory ${shared} holds files that are not Drover's`);
    expect(inShared.stderr).toContain(`chmod 700 ${shared}`);
    expect(inShared.exitCode).toBe(EXIT.configuration);
    expect((await stat(shared)).mode & 0o777).toBe(0o755);

    const theirs = join(dir, 'theirs');
    await mkdir(theirs, { mode: 0o700 });
    await chown(theirs, 65_534, 65_534);
    const inTheirs = await serve({ stateDir: theirs });
    expect(inTheirs.stderr).toContain(`${theirs} belongs to another user (uid 65534)`);
    expect(inTheirs.stderr).toContain('choose another stateDir');
    expect(inTheirs.exitCode).toBe(EXIT.configuration);
    expect(await readdir(theirs)).toEqual([]);

    const belowTheirs = await serve({ stateDir: join(theirs, 'state') });
    expect(belowTheirs.stderr).toContain(`${theirs} belongs to another user (uid 65534)`);
    expect(belowTheirs.exitCode).toBe(EXIT.configuration);
    expect(await readdir(theirs)).toEqual([]);
  });

  test('a directory for the socket that cannot be made', async () => {
    await writeFile(join(dir, 'file'), '');
    const { exitCode, stderr } = await serve({ doors: { socket: { path: join(dir, 'file/nix.sock') } } });
    expect(stderr).toContain(
      `drover: The directory ${join(dir, 'file')} cannot be used: a file is in its place\n`,
    );
    expect(stderr).toContain('doors.socket.path');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('a state directory on a full disk', async () => {
    const disk = join(dir, 'disk');
    await mkdir(disk);
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'full', disk]);
    try {
      const { exitCode, stderr } = await serve({ stateDir: join(disk, 's') });
      expect(stderr).toContain(
        `drover: The file system of ${join(disk, 's')} has no free space or no free inode`,
      );
      expect(stderr).toContain('choose another stateDir');
      expect(exitCode).toBe(EXIT.unavailable);
    } finally {
      await execa('umount', [disk]);
    }
  });

  test('a log file in a directory that is not there', async () => {
    const { exitCode, stderr } = await serve({ log: { file: join(dir, 'absent/drover.log') } });
    expect(stderr).toContain('absent/drover.log cannot be written: ENOENT');
    expect(stderr).toContain('leave out log.file');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('a socket in a directory that others can enter', async () => {
    await mkdir(join(dir, 'open'));
    await chmod(join(dir, 'open'), 0o755);
    const { exitCode, stderr } = await serve({ doors: { socket: { path: join(dir, 'open/nix.sock') } } });
    expect(stderr).toContain('Other users can enter');
    expect(stderr).toContain('chmod 700');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('a user who is not root', async () => {
    const home = join(dir, 'home');
    await mkdir(home);
    await chmod(dir, 0o755);
    await chown(home, 65_534, 65_534);
    const file = join(dir, 'drover.yaml');
    await writeFile(file, stringify({ stateDir: join(home, 's'), metrics: null }));
    const { exitCode, stderr } = await execa(
      'setpriv',
      [
        ...['--reuid', '65534', '--regid', '65534', '--clear-groups', process.execPath],
        ...[join(REPOSITORY, 'dist/main.js'), 'serve', '--config', file],
      ],
      { reject: false, env: { HOME: home } },
    );
    expect(stderr).toContain('which needs root');
    expect(stderr).toContain('sudo');
    expect(exitCode).toBe(EXIT.notPermitted);
  });

  test('a host without Nix', async () => {
    await mkdir(join(dir, 'bin'));
    for (const program of ['busybox', 'ldd', 'sqlite3']) {
      const { stdout } = await execa('sh', ['-c', `command -v ${program}`]);
      await execa('ln', ['-s', stdout, join(dir, 'bin', program)]);
    }
    const { exitCode, stderr } = await serve({}, { PATH: join(dir, 'bin') });
    expect(stderr).toContain('nix-daemon is not on PATH');
    expect(stderr).toContain('Install Nix');
    expect(exitCode).toBe(EXIT.unavailable);
  });

  test('an unsupported system, a full scratch and garbage are reported, and other clients are served', async () => {
    await using drover = await startDrover({ config: { guest: { scratchSize: '48MiB' } } });
    await using host = await nixHost({ drover });
    const [store = ''] = (await drover.machines('socket')).split(' ');

    const foreign = host.derivation('foreign', 'echo > $out').replace('x86_64-linux', 'mips64-linux');
    const refused = await host.build(foreign);
    expect(refused.exitCode).not.toBe(0);

    const big = host.derivation('big', 'dd if=/dev/zero of=$out bs=1M count=200');
    const full = await host.build(big);
    expect(full.exitCode).not.toBe(0);
    expect(full.stderr).toContain('raise guest.scratchSize');

    const connect = join(drover.stateDir, 'doors/connect');
    const garbage = await execa(connect, [], { input: 'GET / HTTP/1.1\r\n\r\n', reject: false });
    expect(garbage.exitCode).toBe(0);
    const damaged = await host.run('nix', ['store', 'ping', '--store', `${store}-x`]);
    expect(damaged.exitCode).not.toBe(0);

    succeeded(await host.build(host.derivation('fine', 'echo fine > $out')));
    await waitUntil('the return of all leases', async () => (await drover.status()).leases === 0);
  });
});
