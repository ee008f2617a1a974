import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { stringify } from 'yaml';

import { EXIT } from '../../src/lib/error-codes.js';
import { runDrover, startDrover, type CliResult } from '../support/drover.js';
import { expectNoRemains } from '../support/guests.js';
import { nixHost } from '../support/nix.js';
import { describeE2e, QEMU_DIR } from '../support/requirements.js';
import { manifestOf, startVmDrover, VM_CONFIG, VM_DEADLINE_MS } from '../support/vms.js';

describeE2e('what is wrong with VMs is said once, with a hint', ['vms'], () => {
  let dir = '';
  beforeEach(async () => {
    dir = await mkdtemp('/tmp/bad-');
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });

  async function serve(
    guest: Readonly<Record<string, unknown>>,
    env: Readonly<Record<string, string>> = {},
    config: Readonly<Record<string, unknown>> = {},
  ): Promise<CliResult> {
    const file = join(dir, 'drover.yaml');
    const all = {
      stateDir: join(dir, 's'),
      metrics: null,
      ...VM_CONFIG,
      guest: { ...VM_CONFIG.guest, image: manifestOf('x86_64'), ...guest },
      ...config,
    };
    await writeFile(file, stringify(all));
    return await runDrover(['serve', '--config', file], {
      env: { PATH: `${QEMU_DIR}:${process.env['PATH'] ?? ''}`, ...env },
    });
  }

  /** A PATH with these programs and no others. */
  async function pathWith(...programs: string[]): Promise<string> {
    await mkdir(join(dir, 'bin'));
    for (const program of programs) {
      const { stdout } = await execa('sh', ['-c', `command -v ${program}`], {
        env: { PATH: `${QEMU_DIR}:${process.env['PATH'] ?? ''}` },
      });
      await symlink(stdout, join(dir, 'bin', program));
    }
    return join(dir, 'bin');
  }

  /** An image like the real one, with its files linked and some keys of its manifest changed. */
  async function imageWith(changes: Readonly<Record<string, unknown>>): Promise<string> {
    const file = manifestOf('x86_64');
    const manifest = JSON.parse(await readFile(file, 'utf8')) as Record<string, { path: string }>;
    const absolute = (key: string): unknown => ({ path: join(file, '..', manifest[key]?.path ?? '') });
    const changed = { ...manifest, kernel: absolute('kernel'), initrd: absolute('initrd'), ...changes };
    await writeFile(join(dir, 'manifest.json'), JSON.stringify(changed));
    return join(dir, 'manifest.json');
  }

  test('no image', async () => {
    const { exitCode, stderr } = await serve({ image: undefined });
    expect(stderr).toContain('guest.image is not set');
    expect(stderr).toContain('guest-config/debian/build.sh');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('no QEMU for the architecture of the image', async () => {
    const PATH = await pathWith('node', 'setpriv', 'virtiofsd', 'qemu-system-x86_64');
    const { exitCode, stderr } = await serve({ image: manifestOf('aarch64') }, { PATH });
    expect(stderr).toContain(
      'qemu-system-aarch64 is not on PATH, and the image in guest.image is for aarch64',
    );
    expect(stderr).toContain('apt-get install qemu-system-arm');
    expect(exitCode).toBe(EXIT.unavailable);
  });

  test('a virtiofsd that is too old', async () => {
    const PATH = await pathWith('node', 'setpriv', 'sh', 'qemu-system-x86_64');
    await writeFile(join(PATH, 'virtiofsd'), '#!/bin/sh\necho virtiofsd 1.13.1\n', { mode: 0o755 });
    const { exitCode, stderr } = await serve({}, { PATH });
    expect(stderr).toMatch(/virtiofsd is too old: .* is virtiofsd 1\.13\.1/);
    expect(stderr).toContain('Install virtiofsd 1.13.2 or later');
    expect(exitCode).toBe(EXIT.unavailable);
  });

  test('an image that is damaged, and one that lies about its architecture', async () => {
    const sha256 = '0'.repeat(64);
    const damaged = await serve({
      image: await imageWith({ initrd: { path: manifestOf('x86_64'), sha256 } }),
    });
    expect(damaged.stderr).toMatch(/The guest image .* cannot be used: its initrd .* is damaged/);
    expect(damaged.stderr).toContain('Rebuild the image');
    expect(damaged.exitCode).toBe(EXIT.unavailable);
    const other = await serve({
      image: await imageWith({ architecture: 'aarch64', systems: ['aarch64-linux'] }),
    });
    expect(other.stderr).toMatch(/it says aarch64, but its kernel .* is for x86_64/);
    const corrupt = join(dir, 'corrupt.json');
    await writeFile(corrupt, '{"generation": ');
    expect((await serve({ image: corrupt })).stderr).toContain('it is not JSON');
  });

  test('a system that the image does not build', async () => {
    const { exitCode, stderr } = await serve({}, {}, { systems: ['aarch64-linux'] });
    expect(stderr).toContain('qemu guests on this host cannot build aarch64-linux; they build x86_64-linux');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('cores that the host does not have', async () => {
    const { exitCode, stderr } = await serve({ cores: 1_000 });
    expect(stderr).toMatch(/guest\.cores is 1000, and this host has \d+/);
    expect(stderr).toContain('Lower guest.cores');
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('memory that the host does not have', async () => {
    const memory = await serve({ memory: '100TiB' });
    expect(memory.stderr).toMatch(/guest\.memory is 100 TiB, and this host has /);
    expect(memory.stderr).toContain('Lower guest.memory');
    expect(memory.exitCode).toBe(EXIT.configuration);
  });

  test('a scratch disk that the host has no room for is a warning: it is sparse', async () => {
    await using drover = await startVmDrover({ guest: { scratchSize: '900TiB' } });
    expect((await drover.status()).warnings).toContainEqual(
      expect.stringMatching(/guest\.scratchSize is 900 TiB, and .* free/),
    );
  });

  test('a state directory whose sockets would have paths that are too long', async () => {
    const { exitCode, stderr } = await serve({}, {}, { stateDir: join(dir, 'x'.repeat(70)) });
    expect(stderr).toContain("cannot be a socket's path");
    expect(exitCode).toBe(EXIT.configuration);
  });

  test('no driver works: what keeps each from it', async () => {
    const PATH = await pathWith('node', 'setpriv');
    const { exitCode, stderr } = await serve({}, { PATH }, { driver: 'auto' });
    expect(stderr).toMatch(/No driver works here: namespace: .*; qemu: .*qemu-system-x86_64 is not on PATH/);
    expect(exitCode).toBe(EXIT.unavailable);
  });

  test('auto: VMs where namespaces are not to be had', async () => {
    const programs = [
      'node',
      'setpriv',
      'virtiofsd',
      'qemu-system-x86_64',
      'slirp4netns',
      'nix-daemon',
      'nix-store',
    ];
    const PATH = await pathWith(...programs);
    await using drover = await startDrover({
      env: { PATH },
      config: {
        driver: 'auto',
        guest: { image: manifestOf('x86_64'), accelerator: 'tcg', scratchSize: '1GiB' },
      },
    });
    const { driver, systems, warnings } = await drover.status();
    expect({ driver, systems }).toEqual({ driver: 'qemu', systems: ['x86_64-linux', 'i686-linux'] });
    // The image has Debian's Nix.
    expect(warnings).toEqual([expect.stringContaining('known security holes')]);
  });

  test(
    'an accelerator that runs no guest: it is emulated, and status says so, at once the next time',
    async () => {
      const qemu = join(await pathWith('sh'), 'qemu-system-x86_64');
      // One that gets no kernel anywhere, as in some VMs; everything else is QEMU's to answer.
      const script = `#!/bin/sh
        case "$*" in
          *"-accel kvm"*) echo tried >> ${dir}/tried; echo "failed to initialize kvm"; exit 1 ;;
          *) exec ${QEMU_DIR}/qemu-system-x86_64 "$@" ;;
        esac\n`;
      await writeFile(qemu, script, { mode: 0o755 });
      const options = {
        stateDir: join(dir, 's'),
        env: { PATH: `${join(dir, 'bin')}:${QEMU_DIR}:${process.env['PATH'] ?? ''}` },
        guest: { accelerator: 'kvm' },
      };
      for (let start = 0; start < 2; start++) {
        await using drover = await startVmDrover(options);
        const { warnings } = await drover.status();
        expect(warnings).toEqual([
          expect.stringContaining('known security holes'),
          expect.stringContaining('guests are emulated (tcg)'),
          // This QEMU is in a directory that only root may enter.
          expect.stringContaining(`QEMU runs as root: other users may not run ${qemu}`),
        ]);
        const { stdout } = await drover.cli('status');
        // Lines are broken to the terminal's width.
        const text = stdout.replace(/\s+/g, ' ');
        for (const warning of warnings) expect(text).toContain(`warning: ${warning}`);
        expect(drover.hasLogged('driver is degraded')).toBe(true);
      }
      const hasKvm = (await readdir('/dev')).includes('kvm');
      expect(await readFile(join(dir, 'tried'), 'utf8').catch(() => '')).toBe(hasKvm ? 'tried\n' : '');
    },
    VM_DEADLINE_MS,
  );

  test(
    'a guest that never answers: the end of its console is in the error, and nothing of it is left',
    async () => {
      // A first process that waits for ever, in place of the image's own; not quiet, so that the kernel talks.
      const image = await imageWith({ commandLine: 'panic=-1 rdinit=/usr/bin/sleep -- 86399' });
      await using drover = await startVmDrover({ guest: { image }, pool: { bootTimeout: '25s' } });
      await using host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
      const { exitCode, stderr } = await host.build(host.derivation('never', 'echo > $out'));
      expect(exitCode).not.toBe(0);
      expect(stderr).toMatch(/The guest g\d did not boot: .*25 s/);
      const file = /\(console log: (.*)\)/.exec(stderr)?.[1] ?? '';
      expect(file).toContain(`${drover.stateDir}/logs/`);
      // However far the kernel came in this time.
      const last = (await readFile(file, 'utf8')).trimEnd().split('\n').slice(-5);
      expect(last).toHaveLength(5);
      for (const line of last) expect(stderr).toContain(line.trim());
      await expectNoRemains(drover.stateDir);
    },
    VM_DEADLINE_MS,
  );

  test(
    'the log of a guest that failed is kept',
    async () => {
      const image = await imageWith({ commandLine: 'panic=-1 rdinit=/none' });
      await using drover = await startVmDrover({ guest: { image } });
      await using host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
      const { stderr } = await host.build(host.derivation('panics', 'echo > $out'));
      const file = /\(console log: (.*)\)/.exec(stderr)?.[1] ?? '';
      expect(await readFile(file, 'utf8')).toMatch(/Kernel panic|Requested init/);
    },
    VM_DEADLINE_MS,
  );
});
