import { existsSync } from 'node:fs';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { parseConfig } from '../../src/config/load.js';
import { darwin } from '../support/host-modules.js';
import { describeWith } from '../support/requirements.js';
import { ScriptWorld, type ScriptResult } from '../support/scripts.js';

// Beside a directory that every machine has: readlink looks for it.
const IMAGE = '/usr/image';
const PLIST = 'root/Library/LaunchDaemons/org.nixos.drover.plist';
const PROFILES = 'root/nix/var/nix/profiles';

let world: ScriptWorld;

/** A Mac, as far as the script can tell: programs that note how they are called, and keep their state in files. */
beforeEach(async () => {
  world = await ScriptWorld.make();
  const { dir } = world;
  await mkdir(world.path('root'));
  await world.double('uname', 'echo Darwin arm64');
  await world.double('sw_vers', 'echo 15.1');
  await world.double('arch');
  await world.double('sudo', 'exec "$@"');
  await world.double('env', 'shift; exec "$@"');
  // No Linux builder is known to Nix.
  await world.double('nix-build', 'exit 1');
  await world.double(
    'nix-store',
    `case $* in
       *--realise*) mkdir -p ${dir}/root${IMAGE} && echo '{}' > ${dir}/root${IMAGE}/manifest.json ;;
       --add*) echo /nix/store/public ;;
     esac`,
  );
  await world.double('nix-env', 'mkdir -p "$(dirname "$2")" && ln -sfn "$4" "$2"');
  await world.double('ssh-keygen', `echo key > "$9"; echo public > "$9.pub"`);
  await world.double('ssh', `[ -e ${dir}/vm-is-up ]`);
  await world.double(
    'launchctl',
    `case $1 in
       print) [ -e ${dir}/loaded ] ;;
       bootstrap) touch ${dir}/loaded ;;
       bootout) rm ${dir}/loaded ;;
     esac`,
  );
  await world.double(
    'drover',
    'echo "ssh-ng://localhost?remote-program=/var/lib/drover/doors/connect aarch64-linux - 8 1 - - -"',
  );
  await mkdir(world.path('package'));
  await symlink(world.path('bin'), world.path('package/bin'));
  // It runs until it is told to end.
  await world.double(
    'vm',
    `echo $$ > ${dir}/vm-pid; touch ${dir}/vm-is-up; mkfifo ${dir}/never; exec cat ${dir}/never`,
  );
});
afterEach(async () => {
  await world.remove();
});

const run = async (...args: readonly string[]): Promise<ScriptResult> => await runWith({}, ...args);
const runWith = async (
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<ScriptResult> =>
  await world.run('nix/bootstrap.sh', args, {
    DROVER_ROOT: world.path('root'),
    DROVER_PACKAGE: world.path('package'),
    DROVER_IMAGE: IMAGE,
    DROVER_IMAGE_DERIVATION: '/nix/store/image.drv',
    BUILDER_VM: world.path('bin/vm'),
    BUILDER_HOST_KEY: 'ssh-ed25519 HOSTKEY',
    DROVER_BOOTSTRAP_SECOND: '0.01',
    ...environment,
  });
/** How programs were called in one more run. */
const callsOf = async (action: () => Promise<ScriptResult>): Promise<string[]> => {
  await writeFile(world.path('calls'), '');
  await action();
  return (await world.calls()).split('\n').filter((call) => call !== '');
};
const ofPrograms = (calls: readonly string[], ...programs: readonly string[]): string[] =>
  calls.filter((call) => programs.includes(call.split(' ')[0] ?? ''));

describeWith('bootstrap.sh', ['nix'], () => {
  test('fetches a released image, for which no Linux builder is needed', async () => {
    await world.double('import');
    const { exitCode, stdout } = await runWith({ DROVER_IMPORT: world.path('bin/import'), BUILDER_VM: '' });
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`bootstrap: fetch the guest image: ${IMAGE}\nbootstrap: install ${IMAGE}`);
    const calls = (await world.calls()).split('\n');
    expect(calls).toContain('nix-store --realise /nix/store/image.drv');
    expect(calls.map((call) => call.replaceAll(world.dir, ''))).toContain(
      `sudo /bin/sh /bin/import /root${IMAGE} /root/nix/var/nix/gcroots/drover-guest-closure`,
    );
    expect(stdout).not.toContain('linux-builder');
  });

  test('builds the image with the linux-builder, and registers Drover', async () => {
    const { exitCode, stdout, stderr } = await run();
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout.split('\n').map((line) => line.replaceAll(world.dir, ''))).toEqual([
      `bootstrap: build the guest image: ${IMAGE}`,
      'bootstrap: start the linux-builder; its console is in /.cache/drover-bootstrap/builder.log',
      'bootstrap: stop the linux-builder',
      `bootstrap: install ${IMAGE} as /${PROFILES}/drover-guest-image`,
      `bootstrap: install /package as /${PROFILES}/drover`,
      'bootstrap: write the configuration: /root/etc/drover/drover.yaml',
      'bootstrap: have its logs rotated: /root/etc/newsyslog.d/drover.conf',
      'bootstrap: have new terminals find drover: /root/etc/paths.d/drover',
      `bootstrap: register the service: /${PLIST}`,
      'bootstrap: tell Nix of Drover: /root/etc/nix/machines',
      expect.stringMatching(/^bootstrap: to undo it: /),
      'bootstrap: done',
    ]);
    expect(await world.read('root/etc/paths.d/drover')).toBe('/nix/var/nix/profiles/drover/bin\n');
    const realise = ofPrograms((await world.calls()).split('\n'), 'nix-store').find((call) =>
      call.includes('--realise'),
    );
    expect(realise).toContain('--store local --realise /nix/store/image.drv --max-jobs 0');
    expect(realise).toContain(
      `--builders ssh-ng://builder@127.0.0.1 aarch64-linux ${world.dir}/.cache/drover-bootstrap/keys/builder_ed25519 4 1`,
    );
    // As the module for nix-darwin has it.
    expect((await world.read('root/etc/newsyslog.d/drover.conf')).trimEnd()).toBe(
      (await darwin('{ }')).etc['newsyslog.d/drover.conf']?.trimEnd(),
    );
    expect(await world.read(PLIST)).toContain(
      '/nix/var/nix/profiles/drover/bin/drover serve --config /etc/drover/drover.yaml',
    );
    expect(await world.read('root/etc/nix/machines')).toMatch(
      /^ssh-ng:\/\/localhost\?remote-program=\S+ aarch64-linux .*\n$/,
    );
    const config = parseConfig(await world.read('root/etc/drover/drover.yaml'), 'drover.yaml', {
      env: {},
      uid: 0,
      home: '/var/root',
    });
    // With the sizes of the module for nix-darwin.
    expect(config).toMatchObject({
      driver: 'vz',
      guest: {
        image: '/nix/var/nix/profiles/drover-guest-image/manifest.json',
        memoryBytes: undefined,
        scratchSizeBytes: 50 * 1024 ** 3,
      },
      log: { file: '/var/log/drover.log' },
    });
  });

  test('the linux-builder is not left running, and nor are its keys', async () => {
    await run();
    const pid = Number(await world.read('vm-pid'));
    expect(pid).toBeGreaterThan(0);
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    expect(existsSync(world.path('.cache/drover-bootstrap'))).toBe(false);
  });

  test('run again, it does nothing', async () => {
    await run();
    const calls = await callsOf(run);
    expect(ofPrograms(calls, 'vm', 'ssh', 'ssh-keygen', 'nix-env', 'nix-build', 'nix-store', 'tee')).toEqual(
      [],
    );
    expect(ofPrograms(calls, 'launchctl').map((call) => call.split(' ')[1])).toEqual(['print', 'print']);
    expect((await world.read('root/etc/nix/machines')).split('\n')).toHaveLength(2);
  });

  test('goes on where it was interrupted: with the same keys, and with a linux-builder that still runs', async () => {
    await world.double('nix-store', 'case $* in *--realise*) echo "error: disk full" >&2; exit 1 ;; esac');
    const { exitCode, stderr } = await run();
    expect([exitCode, stderr]).toEqual([1, 'error: disk full']);
    expect(existsSync(`/proc/${(await world.read('vm-pid')).trim()}`)).toBe(false);
    expect(existsSync(world.path(PLIST))).toBe(false);

    await world.double(
      'nix-store',
      `mkdir -p ${world.dir}/root${IMAGE}; touch ${world.dir}/root${IMAGE}/manifest.json`,
    );
    const calls = await callsOf(run); // ssh finds a linux-builder that answers
    expect(ofPrograms(calls, 'ssh-keygen', 'vm')).toEqual([]);
    expect(existsSync(world.path(PLIST))).toBe(true);
  });

  test('a Mac with a Linux builder of its own uses that', async () => {
    await world.double('nix-build');
    const calls = await callsOf(run);
    expect(ofPrograms(calls, 'vm', 'ssh', 'ssh-keygen')).toEqual([]);
    expect(ofPrograms(calls, 'nix-store')).toEqual(['nix-store --realise /nix/store/image.drv']);
  });

  test('where nix-darwin manages the Mac, only the image is made, and the rest is explained', async () => {
    await world.write('root/run/current-system/darwin-version', '26.05');
    const { exitCode, stdout } = await run();
    expect(exitCode).toBe(0);
    expect(stdout).toContain('services.drover.enable = true;');
    expect(ofPrograms((await world.calls()).split('\n'), 'nix-env')).toHaveLength(1);
    expect(existsSync(world.path(PLIST))).toBe(false);
    expect(existsSync(world.path('root/etc'))).toBe(false);
  });

  test('--dry-run says what it would do, and does none of it', async () => {
    const { exitCode, stdout } = await run('--dry-run');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`bootstrap: would build the guest image: ${IMAGE}`);
    expect(stdout).toContain('bootstrap: would register the service');
    expect(
      ofPrograms((await world.calls()).split('\n'), 'sudo', 'vm', 'nix-store', 'nix-env', 'launchctl'),
    ).toEqual([]);
    expect(existsSync(world.path('root/etc'))).toBe(false);
  });

  test('a new version is installed and started; the configuration stays as it is', async () => {
    await run();
    await world.write('root/etc/drover/drover.yaml', 'mine: true\n');
    await world.write(
      'root/etc/nix/machines',
      `ssh://other x86_64-linux\n${await world.read('root/etc/nix/machines')}`,
    );
    await world.double(
      'drover',
      'echo "ssh-ng://localhost?remote-program=/var/lib/drover/doors/connect x86_64-linux - 9 1 - - -"',
    );
    await mkdir(world.path('newer'));
    await symlink(world.path('bin'), world.path('newer/bin'));
    const calls = await callsOf(
      async () =>
        await world.run('nix/bootstrap.sh', [], {
          DROVER_ROOT: world.path('root'),
          DROVER_PACKAGE: world.path('newer'),
          DROVER_IMAGE: IMAGE,
          DROVER_IMAGE_DERIVATION: '/nix/store/image.drv',
          BUILDER_VM: world.path('bin/vm'),
          BUILDER_HOST_KEY: 'ssh-ed25519 HOSTKEY',
        }),
    );
    expect(calls).toContain('launchctl kickstart -k system/org.nixos.drover');
    expect(await world.read('root/etc/drover/drover.yaml')).toBe('mine: true\n');
    expect(await world.read('root/etc/nix/machines')).toBe(
      'ssh://other x86_64-linux\nssh-ng://localhost?remote-program=/var/lib/drover/doors/connect x86_64-linux - 9 1 - - -\n',
    );
  });

  test('a service that is another one now is ended first, and waited for', async () => {
    await run();
    await writeFile(world.path(PLIST), 'an older one');
    const calls = ofPrograms(await callsOf(run), 'launchctl').map((call) => call.split(' ')[1]);
    expect(calls).toEqual(['print', 'bootout', 'print', 'print', 'bootstrap']);
  });

  test.each([
    ['on Linux', 'uname', 'echo Linux x86_64', 'this is for Macs with Apple silicon'],
    ['on an Intel Mac', 'uname', 'echo Darwin x86_64', 'this is for Macs with Apple silicon'],
    ['before macOS 13', 'sw_vers', 'echo 12.6.1', 'Drover needs macOS 13, and this is 12.6.1'],
  ])('%s it says so', async (_, program, body, message) => {
    await world.double(program, body);
    const { exitCode, stderr } = await run();
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`bootstrap: ${message}`);
    expect(ofPrograms((await world.calls()).split('\n'), 'sudo')).toEqual([]);
  });

  test('a linux-builder that ends by itself is shown with its last words', async () => {
    await world.double('vm', 'echo "qemu: no such machine"; exit 1');
    const { exitCode, stderr } = await run();
    expect(exitCode).toBe(1);
    expect(stderr).toBe('bootstrap: the linux-builder has ended\n  qemu: no such machine');
  });

  test('without Rosetta it says what to do', async () => {
    await world.double('arch', 'exit 1');
    expect((await run()).stdout).toContain('softwareupdate --install-rosetta');
  });

  test('nix.conf that does not read the machines file', async () => {
    await world.write('root/etc/nix/nix.conf', 'builders = ssh://other\n');
    expect((await run()).stdout).toContain('nix.conf sets builders to something else');
    // Determinate's nix.conf includes it.
    await world.write('root/etc/nix/nix.custom.conf', 'builders = @/etc/nix/machines\n');
    expect((await run()).stdout).not.toContain('sets builders');
    await world.write('root/etc/nix/nix.conf', '!include nix.custom.conf\n');
    await world.write('root/etc/nix/nix.custom.conf', 'builders =\n');
    expect((await run()).stdout).toContain('nix.conf sets builders to something else');
  });

  test('an argument that it does not know', async () => {
    expect((await run('--now')).exitCode).toBe(2);
  });
});

describe('demo.sh', () => {
  test('without a supervisor it says so', async () => {
    await world.double('drover', 'echo "no supervisor" >&2; exit 69');
    const { exitCode, stderr } = await world.run('nix/demo.sh');
    expect(exitCode).toBe(69);
    expect(stderr).toMatch(/^demo: no Drover is running here.*\nno supervisor$/);
  });

  test('builds for each system, by Drover alone', async () => {
    await world.double('drover', 'echo "ssh-ng://x aarch64-linux,x86_64-linux - 8 1"');
    await world.double('nix-build');
    await chmod(world.path('bin/nix-build'), 0o755);
    expect((await world.run('nix/demo.sh')).exitCode).toBe(0);
    const builds = ofPrograms((await world.calls()).split('\n'), 'nix-build');
    expect(builds.map((call) => /--builders (.*) --argstr system (\S+)/.exec(call)?.slice(1))).toEqual([
      ['ssh-ng://x aarch64-linux,x86_64-linux - 8 1', 'aarch64-linux'],
      ['ssh-ng://x aarch64-linux,x86_64-linux - 8 1', 'x86_64-linux'],
    ]);
  });
});
