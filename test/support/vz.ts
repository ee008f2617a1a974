import {
  appendFile,
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execPath } from 'node:process';

import { execa } from 'execa';

import { accounts, GuestEtc, HOST_FILES } from '../../src/drivers/namespace/etc.js';
import { makeImage } from '../../src/drivers/namespace/image.js';
import { probeNix } from '../../src/drivers/namespace/nix-probe.js';
import { findPrograms } from '../../src/drivers/namespace/programs.js';
import { REPOSITORY, startDrover, type Drover, type StartOptions } from './drover.js';
import { guestProcesses, HELD_COMMAND, processes } from './guests.js';
import { NIX_DIRS, type NixVersion } from './nix.js';
import { waitUntil } from './wait.js';
import { buildVzHelper } from './vz-helper.js';

const GUEST = join(REPOSITORY, 'test/fixtures/vz-guest/namespace-guest.mjs');
/** A machine of drover vm. */
const CONSOLE_GUEST = join(REPOSITORY, 'test/fixtures/vz-guest/console-guest.mjs');
const SSHD = '/usr/sbin/sshd';
const SSHD_CONFIG = `HostKey /run/sshd/host_key
AuthorizedKeysFile /run/sshd/authorized_keys
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
SetEnv PATH=/usr/bin:/bin:/sbin
`;

/**
 * Words before a program whose last argument is its configuration: it then runs, with that as /etc/drover/drover.yaml,
 * where /etc is a link, as on macOS.
 */
const WITH_LINKED_ETC = [
  ...['unshare', '--mount', '--propagation', 'private', 'sh', '-euc'],
  `mount -t tmpfs -o mode=0755 tmpfs /mnt
  for entry in /*; do
    case $entry in /etc | /mnt) continue ;; esac
    if [ -L "$entry" ]; then cp -P "$entry" /mnt
    elif [ -d "$entry" ]; then mkdir "/mnt$entry"; mount --rbind "$entry" "/mnt$entry"; fi
  done
  mkdir /mnt/mnt /mnt/old /mnt/private
  cp -a /etc /mnt/private/etc
  ln -s private/etc /mnt/etc
  for config; do :; done
  mkdir -p /mnt/etc/drover
  ln -sfn "$config" /mnt/etc/drover/drover.yaml
  left=$#
  for word; do
    shift
    left=$((left - 1))
    if [ "$left" -gt 0 ]; then set -- "$@" "$word"; fi
  done
  cd /mnt
  pivot_root . old
  umount -l /old
  exec "$@" /etc/drover/drover.yaml`,
  'sh',
];

/**
 * A Mac whose virtual machines are namespace guests: vz-helper on the double of Virtualization.framework, and the image
 * of its guests.
 */
export class DoubledMac implements AsyncDisposable {
  readonly #dir: string;
  readonly #program: string;

  private constructor(dir: string, program: string) {
    this.#dir = dir;
    this.#program = program;
  }

  static async create(version: NixVersion = 'modern'): Promise<DoubledMac> {
    const program = await buildVzHelper();
    const dir = await mkdtemp('/tmp/mac-');
    await mkdir(join(dir, 'vms'), { mode: 0o700 });
    const root = await makeGuestRoot(join(dir, 'images'), version);
    // Apple silicon boots nothing but uncompressed arm64 kernels. The double boots none at all.
    const kernel = Buffer.alloc(0x300);
    kernel.write('ARMd', 0x38, 'latin1');
    await writeFile(join(dir, 'kernel'), kernel);
    await writeFile(join(dir, 'initrd'), 'an initrd');
    const { nixVersion, protocol } = await probeNix(NIX_DIRS[version], process.env);
    const { major, minor, features } = protocol;
    const manifest = {
      generation: 'doubled',
      nixVersion,
      protocol: { major, minor, features: [...features] },
      // On a Mac Rosetta runs the second one; what stands for it runs it without.
      systems: ['aarch64-linux', 'x86_64-linux'],
      architecture: 'aarch64',
      kernel: { path: 'kernel' },
      initrd: { path: 'initrd' },
      commandLine: 'quiet',
    };
    await writeFile(join(dir, 'manifest.json'), JSON.stringify(manifest));
    await writeFile(
      join(dir, 'guest'),
      `#!/bin/sh\ngrep -q drover.console "$1" && exec ${CONSOLE_GUEST} "$1"\nexec ${GUEST} "$1"\n`,
      { mode: 0o755 },
    );
    const settings = [
      'DROVER_VZ_DOUBLE=rosetta=installed',
      `DROVER_VZ_DOUBLE_DIR=${dir}/vms`,
      `DROVER_VZ_DOUBLE_GUEST=${dir}/guest`,
      `DROVER_TEST_IMAGE=${root}`,
      `PATH=${dirname(execPath)}:$PATH`,
    ];
    await writeFile(join(dir, 'helper'), `#!/bin/sh\nexport ${settings.join(' ')}\nexec ${program}\n`);
    await chmod(join(dir, 'helper'), 0o755);
    return new DoubledMac(dir, program);
  }

  /** Directory of the guests' image. */
  get image(): string {
    return this.#dir;
  }

  /** Starts a supervisor on it. */
  async startDrover({ config, env, ...rest }: StartOptions = {}): Promise<Drover> {
    const { guest, ...others } = config ?? {};
    const image = join(this.#dir, 'manifest.json');
    return await startDrover({
      through: WITH_LINKED_ETC,
      ...rest,
      env: { DROVER_VZ_HELPER: join(this.#dir, 'helper'), ...env },
      config: {
        driver: 'vz',
        guest: { image, memory: '1GiB', scratchSize: '4GiB', store: 'raw', ...(guest ?? {}) },
        ...others,
      },
    });
  }

  /** The vz-helper of a guest. */
  async helper(guest: string): Promise<number> {
    return await waitUntil(`the vz-helper of ${guest}`, async () => {
      for (const pid of await this.#helpers()) {
        const machine = await readFile(join(this.#dir, 'vms', String(pid), 'machine.json'), 'utf8').catch(
          () => '',
        );
        if (machine.includes(`/guests/${guest}/drover`)) return pid;
      }
      return undefined;
    });
  }

  /** Process that plays the virtual machine: see namespace-guest.mjs. */
  async machine(guest: string): Promise<number> {
    const helper = await this.helper(guest);
    return await waitUntil(`the virtual machine of ${guest}`, async () => {
      const all = await processes();
      return all.find(({ parent, command }) => parent === helper && command.includes(GUEST))?.pid;
    });
  }

  /** Stops everything in a virtual machine, so that it answers nothing any more. */
  async freeze(guest: string): Promise<void> {
    for (const { pid } of await guestProcesses(await this.machine(guest))) process.kill(pid, 'SIGSTOP');
  }

  /** Lets the only build in a virtual machine go on, which waits by `HELD`. */
  async release(guest: string): Promise<void> {
    const machine = await this.machine(guest);
    const held = await waitUntil('a build that waits', async () =>
      (await guestProcesses(machine)).find(({ command }) => command === HELD_COMMAND),
    );
    process.kill(held.pid);
  }

  /** All processes of virtual machines, and their helpers: what must end with a supervisor. */
  async remains(): Promise<string[]> {
    const all = await processes();
    const helpers = await this.#helpers();
    return all
      .filter(({ pid, command }) => helpers.includes(pid) || command.includes(`${this.#dir}/`))
      .map(({ pid, command }) => `process ${pid}: ${command}`);
  }

  async #helpers(): Promise<number[]> {
    const own = (await readdir(join(this.#dir, 'vms'))).map(Number);
    return (await processes())
      .filter(({ pid, command }) => command === this.#program && own.includes(pid))
      .map(({ pid }) => pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await waitUntil('the end of all virtual machines', async () => (await this.remains()).length === 0);
    await rm(this.#dir, { recursive: true, force: true });
  }
}

/** The root of a namespace guest, and OpenSSH's sshd in it. */
async function makeGuestRoot(imagesDir: string, version: NixVersion): Promise<string> {
  const programs = await findPrograms(process.env);
  const scripts = join(REPOSITORY, 'guest-config');
  const { root } = await makeImage(imagesDir, { programs, nix: NIX_DIRS[version], scripts });
  const { stdout } = await execa(programs.ldd ?? 'ldd', [SSHD]);
  for (const file of [SSHD, ...Array.from(stdout.matchAll(/(\/\S+) \(0x/g), ([, path = '']) => path)]) {
    await mkdir(join(root, dirname(file)), { recursive: true });
    await copyFile(await realpath(file), join(root, file));
  }
  await GuestEtc.make(join(root, 'etc'), accounts(1_900_000_000), HOST_FILES);
  await appendFile(join(root, 'etc/passwd'), 'sshd:x:100:65534:sshd:/run/sshd:/bin/false\n');
  await mkdir(join(root, 'etc/ssh'));
  await writeFile(join(root, 'etc/ssh/sshd_config'), SSHD_CONFIG);
  return root;
}
