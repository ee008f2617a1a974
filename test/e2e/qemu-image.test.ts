import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { aarch64Program } from '../support/aarch64-program.js';
import { MAIN, REPOSITORY } from '../support/drover.js';
import { expectNoRemains } from '../support/guests.js';
import { nixHost, nixString, succeeded } from '../support/nix.js';
import { describeE2e, IMAGES } from '../support/requirements.js';
import { Session } from '../support/session.js';
import { startVmDrover, VM_DEADLINE_MS } from '../support/vms.js';

const BUILD = join(REPOSITORY, 'guest-config/debian/build.sh');
const ADD_EMULATOR = join(REPOSITORY, 'guest-config/debian/add-emulator.sh');
const NOBODY = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
/** Two images at once, downloads included, in milliseconds. */
const IMAGES_DEADLINE_MS = 600_000;

describeE2e('the image of Debian packages', ['vms'], () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp('/tmp/im-');
    await chmod(dir, 0o777);
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });

  test(
    'is made without root, is the same each time, and is not made again',
    async () => {
      const make = async (name: string, umask: string) =>
        await execa('setpriv', [
          ...NOBODY,
          ...['sh', '-c', `umask ${umask}; exec "$@"`, 'sh', BUILD, 'x86_64', join(dir, name)],
        ]);
      await Promise.all([make('first', '022'), make('second', '077')]);
      const [first, second] = await Promise.all(
        ['first', 'second'].map(async (name) => await readFile(join(dir, name, 'manifest.json'), 'utf8')),
      );
      // With the hashes of the kernel and of everything else.
      expect(first).toMatch(/"sha256": "[0-9a-f]{64}"/);
      expect(second).toBe(first);
      const made = await stat(join(dir, 'first/initrd'));
      expect((await make('first', '022')).stdout).toContain('the x86_64 image is complete in');
      expect((await stat(join(dir, 'first/initrd'))).mtimeMs).toBe(made.mtimeMs);
    },
    IMAGES_DEADLINE_MS,
  );

  test.each([
    { args: ['x86_64'], exitCode: 2, said: 'usage: ' },
    { args: ['vax', '/tmp/none'], exitCode: 2, said: 'images are made for x86_64 and aarch64, not for vax' },
  ])('build.sh $args', async ({ args, exitCode, said }) => {
    const result = await execa(BUILD, args, { reject: false });
    expect(result.exitCode).toBe(exitCode);
    expect(result.stderr).toContain(said);
  });

  test.each([
    { image: 'x86_64', architecture: 'vax', emulator: '/bin/busybox', said: 'not for vax' },
    { image: 'x86_64', architecture: 'x86_64', emulator: '/bin/busybox', said: 'is for x86_64 itself' },
    { image: 'none', architecture: 'aarch64', emulator: '/bin/busybox', said: 'there is no complete image' },
    { image: 'aarch64', architecture: 'x86_64', emulator: '/bin/busybox', said: 'is no program for aarch64' },
    { image: 'x86_64', architecture: 'aarch64', emulator: '/bin/sh', said: 'is not linked statically' },
  ])('no emulator for $architecture in the image $image: $emulator', async (bad) => {
    const args = [join(IMAGES, bad.image), bad.architecture, bad.emulator, join(dir, 'new')];
    const { exitCode, stderr } = await execa(ADD_EMULATOR, args, { reject: false });
    expect(stderr).toContain(bad.said);
    expect(exitCode).not.toBe(0);
  });

  test(
    'guests build for what the image can run, and nothing else is offered',
    async () => {
      await using drover = await startVmDrover({ image: 'x86_64-emulating' });
      await using host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
      expect((await drover.status()).systems).toEqual(['x86_64-linux', 'i686-linux', 'aarch64-linux']);
      expect(await drover.machines('socket')).toContain(' x86_64-linux,i686-linux,aarch64-linux ');

      const native = host.derivation('i686', 'uname -m > $out').replace('x86_64-linux', 'i686-linux');
      const { outputs } = succeeded(await host.build(native));
      expect(await readFile(outputs[0] ?? '', 'utf8')).toBe('i686\n');

      const program = await host.writeFile('program', '');
      await writeFile(program, aarch64Program());
      await chmod(program, 0o755);
      const foreign = succeeded(
        await host.build(`derivation {
          name = "e2e-${host.id}-foreign";
          system = "aarch64-linux";
          builder = builtins.path { name = "e2e-${host.id}-program"; path = /. + ${nixString(program)}; };
          args = [ (builtins.placeholder "out") ];
        }`),
      );
      expect(await readFile(foreign.outputs[0] ?? '', 'utf8')).toBe('aarch64\n');
    },
    2 * VM_DEADLINE_MS,
  );

  test(
    'runs as a machine of a person, with a shell on their terminal and a directory of theirs',
    async () => {
      await using drover = await startVmDrover({ guest: { memory: '512MiB' } });
      await mkdir(join(dir, 'own'));
      await writeFile(join(dir, 'own/in'), 'given\n');
      await chown(join(dir, 'own'), 4711, 4712);
      const words = [process.execPath, MAIN, '--config', drover.configFile, 'vm'];
      const foreign = await execa(words[0] ?? '', [...words.slice(1), join(IMAGES, 'aarch64')], {
        reject: false,
      });
      expect(foreign.stderr).toContain('it is for aarch64, and this host is x86_64');

      const vm = [...words, join(IMAGES, 'x86_64'), '--share', join(dir, 'own')].join(' ');
      const session = new Session('script', ['-qec', `stty rows 33 cols 77; exec ${vm}`, '/dev/null']);
      await session.waitFor(/ # /, VM_DEADLINE_MS);
      session.type(
        'stty size; id -u; cat /share/in; echo made > /share/out; chown 5 /share/out; echo "is $?"\r',
      );
      await session.waitFor(/\n33 77\r\n0\r\ngiven\r\nis 0\r/);
      expect(await readFile(join(dir, 'own/out'), 'utf8')).toBe('made\n');
      expect(await stat(join(dir, 'own/out'))).toMatchObject({ uid: 4711, gid: 4712 });
      session.type('poweroff -f\r');
      expect(await session.exitCode()).toBe(0);
      await expectNoRemains(drover.stateDir);
      expect((await drover.status()).totals).toMatchObject({ guestsBooted: 0 });
    },
    2 * VM_DEADLINE_MS,
  );
});
