import { createHash } from 'node:crypto';
import { mkdir, realpath, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError } from '../../lib/errors.js';
import { listDirectory, makePrivateDir } from '../../lib/private-dir.js';
import { StateDir, type GuestDir } from '../../lib/state-dir.js';
import { requireProgram } from '../../lib/programs.js';
import { bootFailed, ConsoleLogs } from '../console-logs.js';
import { guestNixConf } from '../nix-conf.js';
import type { BootOptions, GuestDriver, ImageManifest, RunningGuest } from '../../guest/driver.js';
import { greetGuest } from '../greet.js';
import { emulatedSystems } from './binfmt.js';
import { NamespaceGuest } from './guest.js';
import { kernelHasOverlayfs, makeImage, type NamespaceImage } from './image.js';
import { probeNix } from './nix-probe.js';
import { findPrograms, type HostPrograms } from './programs.js';

const NATIVE_SYSTEMS: Readonly<Record<string, readonly string[]>> = {
  x64: ['x86_64-linux', 'i686-linux'],
  arm64: ['aarch64-linux'],
};

export interface NamespaceDriverOptions {
  readonly stateDir: string;
  /** Directory of Drover's own guest scripts. */
  readonly scripts: string;
  readonly env: NodeJS.ProcessEnv;
  readonly storeDir: string;
  readonly maxJobs: number;
  readonly features: readonly string[];
  readonly guest: {
    readonly cores: number;
    readonly scratchSizeBytes: number;
    readonly network: 'host' | 'none';
    readonly nixConf: Readonly<Record<string, string>>;
    readonly nix: string | undefined;
  };
}

/** Guests that are namespaces on this Linux host, under the host's own kernel. */
export class NamespaceDriver implements GuestDriver {
  readonly name = 'namespace';
  readonly ownClock = false;
  readonly warnings = [];
  readonly systemsHint =
    'let the kernel run programs of that system (on Debian: apt-get install qemu-user-static)';
  readonly manifest: ImageManifest;
  readonly #options: NamespaceDriverOptions;
  readonly #programs: HostPrograms;
  readonly #image: NamespaceImage;
  readonly #nixConf: string;
  readonly #logs: ConsoleLogs;
  readonly #stateDir: StateDir;

  private constructor(
    options: NamespaceDriverOptions,
    programs: HostPrograms,
    image: NamespaceImage,
    nixConf: string,
    manifest: ImageManifest,
  ) {
    this.#options = options;
    this.#stateDir = new StateDir(options.stateDir);
    this.#logs = new ConsoleLogs(this.#stateDir);
    this.#programs = programs;
    this.#image = image;
    this.#nixConf = nixConf;
    this.manifest = manifest;
  }

  /**
   * Checks that this host can do it, and makes the guests' image.
   * @throws DroverError `NOT_ROOT`, `REQUIREMENT_MISSING`, `NIX_UNUSABLE`: what is missing, and what to do
   */
  static async create(given: NamespaceDriverOptions): Promise<NamespaceDriver> {
    await checkHost();
    // Without links: what is mounted there is found again by its path in /proc/mounts.
    const options = { ...given, stateDir: await realpath(given.stateDir) };
    const { env, guest } = options;
    const programs = await findPrograms(env);
    const nix =
      guest.nix ??
      dirname(
        await requireProgram(
          env,
          'nix-daemon',
          'Install Nix (on Debian: apt-get install nix-bin), or name its directory as guest.nix.',
        ),
      );
    const facts = await probeNix(nix, env);
    const image = await makeImage(new StateDir(options.stateDir).images, {
      programs,
      nix,
      scripts: options.scripts,
    });
    const systems = await namespaceSystems();
    const nixConf = guestNixConf({
      cores: guest.cores,
      maxJobs: options.maxJobs,
      features: options.features,
      extraPlatforms: systems.slice(1),
      nixVersion: facts.nixVersion,
      extra: guest.nixConf,
    });
    const { major, minor, features } = facts.protocol;
    return new NamespaceDriver(options, programs, image, nixConf, {
      generation: createHash('sha256')
        .update(JSON.stringify([image.hash, nixConf, guest]))
        .digest('hex')
        .slice(0, 16),
      nixVersion: facts.nixVersion,
      protocol: { major, minor, features: [...features] },
      systems,
    });
  }

  consoleLog(id: string): string {
    return this.#logs.path(id);
  }

  async boot({ id, signal }: BootOptions): Promise<RunningGuest> {
    const dir = this.#stateDir.guest(id);
    const { scratchSizeBytes, network } = this.#options.guest;
    let consoleLog: ConsoleLog | undefined;
    try {
      await this.#prepare(dir);
      const log = (consoleLog = await this.#logs.open(id));
      const guest = await NamespaceGuest.start(
        {
          id,
          programs: this.#programs,
          image: this.#image.root,
          dir: dir.path,
          storeDir: this.#options.storeDir,
          stage1: join(this.#options.scripts, 'namespace-stage1.sh'),
          scratchSizeBytes,
          network,
          consoleLog: log,
        },
        signal,
      );
      void guest.exited.then(async () => {
        await removeGuestDir(dir);
        if (guest.stopped) await rm(log.path, { force: true });
      });
      await greetGuest(guest, this, signal);
      return guest;
    } catch (cause) {
      await removeGuestDir(dir);
      throw bootFailed(id, cause, this.consoleLog(id), consoleLog?.tail() ?? '');
    }
  }

  async #prepare({ etc, root }: GuestDir): Promise<void> {
    await makePrivateDir(join(etc, 'nix'));
    await makePrivateDir(join(etc, 'drover'));
    await mkdir(root);
    await writeFile(join(etc, 'nix/nix.conf'), this.#nixConf, { mode: 0o644 });
    await writeFile(join(etc, 'drover/manifest.json'), `${JSON.stringify(this.manifest)}\n`, {
      mode: 0o644,
    });
  }

  /**
   * Guests die with their supervisor, so only their directories are left behind, with images of other
   * programs and old logs.
   */
  async reap(): Promise<readonly string[]> {
    const found: string[] = [];
    const { guests, images } = this.#stateDir;
    for (const id of await listDirectory(guests)) {
      await removeGuestDir(this.#stateDir.guest(id));
      found.push(`removed the directory of guest ${id}`);
    }
    for (const image of await listDirectory(images)) {
      if (join(images, image) === this.#image.root) continue;
      await rm(join(images, image), { recursive: true, force: true });
      found.push(`removed the image ${image}`);
    }
    await this.#logs.prune();
    return found;
  }
}

/** Nix systems that this host's kernel can run: its own first. */
export async function namespaceSystems(): Promise<string[]> {
  return [...new Set([...(NATIVE_SYSTEMS[process.arch] ?? []), ...(await emulatedSystems())])];
}

/** @throws DroverError `NOT_ROOT`, `REQUIREMENT_MISSING` */
export async function checkHost(filesystems?: string): Promise<void> {
  if (process.platform !== 'linux') {
    throw new DroverError('REQUIREMENT_MISSING', 'The namespace driver needs a Linux host');
  }
  if (process.getuid?.() !== 0) {
    throw new DroverError('NOT_ROOT', 'The namespace driver makes mounts and namespaces, which needs root', {
      hint: 'Run drover as root, for example with sudo.',
    });
  }
  if (!(await kernelHasOverlayfs(filesystems))) {
    throw new DroverError('REQUIREMENT_MISSING', 'This kernel has no overlayfs', {
      hint: 'Load it (modprobe overlay), or use a kernel that has it.',
    });
  }
}

/** Never recursive on `root`: whatever were mounted there must not be deleted. */
async function removeGuestDir({ path, etc, root }: GuestDir): Promise<void> {
  await rm(etc, { recursive: true, force: true });
  await rmdir(root).catch(() => undefined);
  await rmdir(path).catch(() => undefined);
}
