import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, realpath, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError } from '../../lib/errors.js';
import { listDirectory, makePrivateDir } from '../../lib/private-dir.js';
import { StateDir, type GuestDir } from '../../lib/state-dir.js';
import { findProgram, requireProgram } from '../../lib/programs.js';
import { bootFailed, ConsoleLogs } from '../console-directory.js';
import { guestNixConf } from '../guest-nix-conf.js';
import type {
  BootOptions,
  GuestDriver,
  ImageManifest,
  OwnGuestOptions,
  RunningGuest,
} from '../../guest/driver.js';
import { greetGuest } from '../greet.js';
import { makeScratchFileSystem, requireSpace } from '../scratch-disk.js';
import { emulatedSystems } from './binfmt.js';
import { featureNeeds, hostSettings } from './host-settings.js';
import { availableMemory, Cgroups, fittingSizes, type CgroupLimits } from './cgroups.js';
import { accounts, CA_FILE, GuestEtc, HOST_FILES } from './etc.js';
import { reachableResolvers, resolverWarning } from '../resolvers.js';
import { NamespaceGuest } from './guest.js';
import type { GuestSetup, UserIds } from './helper.js';
import { kernelHasOverlayfs, makeImage, type NamespaceImage } from './image.js';
import { nixWarnings, probeNix } from './nix-probe.js';
import { probeSetup } from './probe.js';
import { findPrograms } from './programs.js';

const NATIVE_SYSTEMS: Readonly<Record<string, readonly string[]>> = {
  x64: ['x86_64-linux', 'i686-linux'],
  arm64: ['aarch64-linux'],
};

export interface NamespaceDriverOptions {
  readonly stateDir: string;
  /** Directory of Drover's own guest scripts. */
  readonly scripts: string;
  /** The compiled drover-namespace. */
  readonly helper: string;
  readonly env: NodeJS.ProcessEnv;
  readonly storeDir: string;
  readonly maxJobs: number;
  readonly maxGuests: number;
  readonly features: readonly string[];
  readonly guest: {
    readonly cores: number;
    /** Undefined: what fits this host. */
    readonly memoryBytes: number | undefined;
    readonly scratchSizeBytes: number | undefined;
    readonly scratch: 'auto' | 'memory' | 'disk';
    readonly network: 'host' | 'outbound' | 'none';
    readonly userNamespace: 'required' | 'auto' | 'off';
    readonly nixConf: Readonly<Record<string, string>>;
    readonly nix: string | undefined;
  };
}

/** Number of user ids of a guest: enough for those of a whole system. */
const GUEST_IDS = 65_536;
/** Group of the build users in a user namespace, where it is any id that nothing else in the guest has. */
const BUILD_GID = 30_000;
/**
 * Not the range of the host's build users, 30001 and up: when a build on the host ends, Nix there kills every
 * process of that user, and the host sees the guests' processes. Above the ranges of systemd, subordinate ids
 * and Nix's own `auto-allocate-uids`.
 */
const HOST_BUILD_GID = 1_900_000_000;
/** One for the whole host, since its supervisors share its user ids. */
const ID_LOCKS = '/run/drover';

const PROBE_SCRATCH_BYTES = 1024 ** 2;
const LOOP_CONTROL = '/dev/loop-control';
const SYSTEM_MKE2FS = ['/usr/sbin/mke2fs', '/sbin/mke2fs'];
/** Processes and threads of one build, at most, on average: more than builds have, and less than hosts. */
const PIDS_PER_JOB = 8192;

/** Variables of the supervisor that Nix hands to fixed-output builds that ask for them. */
const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'ftp_proxy', 'all_proxy', 'no_proxy'];

/** Everything that all guests of a driver have in common. */
type CommonSetup = Omit<GuestSetup, 'dir' | 'disk' | 'name' | 'cgroups'>;

interface Limited {
  readonly cgroups: Cgroups;
  readonly limits: CgroupLimits;
}

/** Guests that are namespaces on this Linux host, under the host's own kernel. */
export class NamespaceDriver implements GuestDriver {
  readonly name = 'namespace';
  readonly ownClock = false;
  readonly warnings: readonly string[];
  readonly systemsHint =
    'let the kernel run programs of that system (on Debian: apt-get install qemu-user-static)';
  readonly manifest: ImageManifest;
  readonly #options: NamespaceDriverOptions;
  readonly #setup: CommonSetup;
  readonly #etc: GuestEtc;
  readonly #limited: Limited | undefined;
  /** Program that formats scratch disks; undefined: scratch is in memory. */
  readonly #mke2fs: string | undefined;
  readonly #logs: ConsoleLogs;
  readonly #stateDir: StateDir;

  private constructor(
    options: NamespaceDriverOptions,
    setup: CommonSetup,
    etc: GuestEtc,
    { limited, disk }: { readonly limited: Limited | undefined; readonly disk: string | undefined },
    manifest: ImageManifest,
    warnings: readonly string[],
  ) {
    this.#options = options;
    this.#limited = limited;
    this.#mke2fs = disk;
    this.#stateDir = new StateDir(options.stateDir);
    this.#logs = new ConsoleLogs(this.#stateDir);
    this.#setup = setup;
    this.#etc = etc;
    this.manifest = manifest;
    this.warnings = warnings;
  }

  /**
   * Checks that this host can do it, and makes the guests' image.
   * @throws DroverError `NOT_ROOT`, `REQUIREMENT_MISSING`, `NIX_UNUSABLE`: what is missing, and what to do
   */
  static async create(given: NamespaceDriverOptions): Promise<NamespaceDriver> {
    await checkHost();
    // Without links: what is mounted there is found again by its path in /proc/mounts.
    const options = { ...given, stateDir: await realpath(given.stateDir) };
    const stateDir = new StateDir(options.stateDir);
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
    const image = await makeImage(stateDir.images, { programs, nix, scripts: options.scripts });
    const mke2fs = await diskFormatter(env, guest.scratch === 'disk');
    const sizes = fittingSizes(
      await availableMemory(),
      options.maxGuests,
      guest,
      mke2fs !== undefined && existsSync(LOOP_CONTROL),
    );
    const slirp =
      guest.network === 'outbound'
        ? await requireProgram(
            env,
            'slirp4netns',
            'Install it (on Debian: apt-get install slirp4netns), or set guest.network to host or none.',
          )
        : undefined;
    const { ids, why } = await userIds(options, image);
    const cgroups = await Cgroups.find();
    const needs = await featureNeeds(options.features, facts.nixVersion);
    const own = await hostSettings(guest.nixConf);
    const systems = await namespaceSystems();
    const nixConf = guestNixConf({
      cores: guest.cores,
      maxJobs: options.maxJobs,
      features: options.features,
      extraPlatforms: systems.slice(1),
      nixVersion: facts.nixVersion,
      // The supervisor, the host's root, has no id in the guest.
      trustedUsers: ids === undefined ? ['root'] : ['root', 'nobody'],
      experimental: needs.experimental,
      uidRange: needs.uidRange ? { first: GUEST_IDS, count: GUEST_IDS * options.maxJobs } : undefined,
      extra: own.nixConf,
    });
    const { major, minor, features } = facts.protocol;
    const manifest = {
      generation: createHash('sha256')
        .update(JSON.stringify([image.hash, nixConf, guest, sizes, ids]))
        .digest('hex')
        .slice(0, 16),
      nixVersion: facts.nixVersion,
      protocol: { major, minor, features: [...features] },
      systems,
    };
    const buildGid = ids === undefined ? HOST_BUILD_GID : BUILD_GID;
    const etc = await GuestEtc.make(
      join(stateDir.etc, manifest.generation),
      {
        ...accounts(buildGid),
        'nix/nix.conf': nixConf,
        'drover/manifest.json': `${JSON.stringify(manifest)}\n`,
      },
      {
        ...HOST_FILES,
        ...(guest.network === 'outbound' ? await reachableResolvers() : {}),
        ...(env['NIX_SSL_CERT_FILE'] === undefined ? {} : { [CA_FILE]: env['NIX_SSL_CERT_FILE'] }),
        ...own.sources,
      },
    );
    const setup = {
      ...commonSetup(options, image, etc.path, sizes.scratchSizeBytes, ids, buildGid),
      slirp,
      kvm: needs.kvm,
      sys: needs.uidRange,
    };
    const disk = sizes.onDisk ? mke2fs : undefined;
    const limits = {
      memoryBytes: sizes.memoryBytes,
      swapBytes: sizes.scratchSizeBytes,
      pids: PIDS_PER_JOB * options.maxJobs,
    };
    const warnings = [
      ...own.warnings,
      ...(guest.nix === undefined ? [] : await nixWarnings(guest.nix)),
      ...(why === undefined ? [] : [why]),
      ...(guest.network === 'outbound' ? await resolverWarning(join(etc.path, 'resolv.conf')) : []),
      ...(typeof cgroups === 'string'
        ? [`guests have no limits of memory and processes, since Drover cannot make cgroups: ${cgroups}`]
        : []),
    ];
    const limited = typeof cgroups === 'string' ? undefined : { cgroups, limits };
    return new NamespaceDriver(options, setup, etc, { limited, disk }, manifest, warnings);
  }

  /** @throws DroverError `NO_SPACE`, `PROGRAM_FAILED` */
  async #makeDisk({ scratch }: GuestDir): Promise<string | undefined> {
    if (this.#mke2fs === undefined) return undefined;
    const bytes = this.#setup.scratchSizeBytes;
    await requireSpace(this.#stateDir.path, bytes);
    await makeScratchFileSystem(this.#mke2fs, scratch, bytes);
    return scratch;
  }

  consoleLog(id: string): string {
    return this.#logs.path(id);
  }

  async boot({ id, signal, own, onPhase }: BootOptions): Promise<RunningGuest> {
    const dir = this.#stateDir.guest(id);
    let consoleLog: ConsoleLog | undefined;
    try {
      await this.#etc.addGuest();
      await makePrivateDir(dir.path);
      await mkdir(dir.root);
      const disk = await this.#makeDisk(dir);
      const log = (consoleLog = await this.#logs.open(id));
      const cgroup = await this.#limited?.cgroups.make(id, this.#limited.limits);
      const guest = await NamespaceGuest.start(
        {
          setup: {
            ...this.#setup,
            ...ownSetup(own),
            dir: dir.path,
            disk,
            name: id,
            cgroups: cgroup?.directories ?? [],
          },
          cgroup,
          helper: this.#options.helper,
          env: daemonEnv(this.#options.env),
          consoleLog: log,
          cleanUp: async (stopped) => {
            await removeGuestDir(dir);
            if (stopped) await rm(log.path, { force: true });
          },
          onStarted: () => {
            onPhase?.('start');
          },
        },
        signal,
      );
      onPhase?.('greet');
      await greetGuest(guest, this, signal);
      void guest.exited.then(() => {
        this.#etc.removeGuest();
      });
      return guest;
    } catch (cause) {
      this.#etc.removeGuest();
      await removeGuestDir(dir);
      throw bootFailed(id, cause, this.consoleLog(id), consoleLog?.tail() ?? '');
    }
  }

  /**
   * Guests die with their supervisor, so only their directories are left behind, with images of other
   * programs and old logs.
   */
  async reap(): Promise<readonly string[]> {
    const found: string[] = [];
    const { guests, images, etc } = this.#stateDir;
    for (const id of await listDirectory(guests)) {
      await removeGuestDir(this.#stateDir.guest(id));
      found.push(`removed the directory of guest ${id}`);
    }
    const used = [this.#setup.image, this.#etc.path];
    for (const [directory, what] of [
      [images, 'image'],
      [etc, 'settings'],
    ] as const) {
      for (const name of await listDirectory(directory)) {
        if (used.includes(join(directory, name))) continue;
        await rm(join(directory, name), { recursive: true, force: true });
        found.push(`removed the ${what} ${name}`);
      }
    }
    await this.#logs.prune();
    await this.#limited?.cgroups.reap();
    return found;
  }
}

function ownSetup(own: OwnGuestOptions | undefined): Partial<GuestSetup> {
  if (own === undefined) return {};
  return { binds: own.binds, ...(own.hostNetwork ? { network: 'host', slirp: undefined } : {}) };
}

/** @throws DroverError `REQUIREMENT_MISSING` if a scratch disk is wanted and cannot be made */
async function diskFormatter(env: NodeJS.ProcessEnv, isWanted: boolean): Promise<string | undefined> {
  // Debian keeps it out of the PATH of users, and services have their own.
  const found = (await findProgram(env, 'mke2fs')) ?? SYSTEM_MKE2FS.find((path) => existsSync(path));
  if (isWanted && !existsSync(LOOP_CONTROL)) {
    throw new DroverError('REQUIREMENT_MISSING', `This host has no loop devices (${LOOP_CONTROL})`, {
      hint: 'Load the module loop, or set guest.scratch to memory.',
    });
  }
  if (found !== undefined || !isWanted) return found;
  const hint = 'Install it (on Debian: apt-get install e2fsprogs), or set guest.scratch to memory.';
  return await requireProgram(env, 'mke2fs', hint);
}

function commonSetup(
  { storeDir, guest }: NamespaceDriverOptions,
  image: NamespaceImage,
  etc: string,
  scratchSizeBytes: number,
  ids: UserIds | undefined,
  buildGid: number,
): CommonSetup {
  const { network } = guest;
  return {
    image: image.root,
    etc,
    store: storeDir,
    scratchSizeBytes,
    network,
    slirp: undefined,
    kvm: false,
    sys: false,
    binds: [],
    ids,
    buildGid,
  };
}

function daemonEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const proxies = PROXY_VARIABLES.flatMap((name) => [name, name.toUpperCase()]).filter(
    (name) => env[name] !== undefined,
  );
  return {
    NIX_SSL_CERT_FILE: `/etc/${CA_FILE}`,
    ...Object.fromEntries(proxies.map((name) => [name, env[name]])),
  };
}

/**
 * Decides about user namespaces.
 * @returns `why`: there are none, though the configuration would have them
 * @throws DroverError `REQUIREMENT_MISSING` if guests cannot be made as the configuration wants them
 */
async function userIds(
  options: NamespaceDriverOptions,
  image: NamespaceImage,
): Promise<{ readonly ids?: UserIds; readonly why?: string }> {
  const { guest, helper } = options;
  const stateDir = new StateDir(options.stateDir);
  const probe = async (ids: UserIds | undefined): Promise<string | undefined> => {
    const dir = stateDir.guest('probe');
    await removeGuestDir(dir);
    await makePrivateDir(dir.path);
    await mkdir(dir.root);
    try {
      const setup = commonSetup(options, image, image.root, PROBE_SCRATCH_BYTES, ids, BUILD_GID);
      return await probeSetup(helper, {
        ...setup,
        dir: dir.path,
        disk: undefined,
        name: 'probe',
        cgroups: [],
      });
    } finally {
      await removeGuestDir(dir);
    }
  };
  let why: string | undefined;
  if (guest.userNamespace !== 'off') {
    // Builds with ranges of ids have theirs above those of the guest.
    const count = options.features.includes('uid-range') ? GUEST_IDS * (1 + options.maxJobs) : GUEST_IDS;
    const ids = { count, locks: await idLocks(stateDir) };
    const problem = await probe(ids);
    if (problem === undefined) return { ids };
    why = `guests have no user namespaces of their own on this host: ${problem}`;
    if (guest.userNamespace === 'required') {
      throw new DroverError('REQUIREMENT_MISSING', `guest.userNamespace is required, and ${why}`, {
        hint: 'Use Linux 6.1 or later with user namespaces, or set guest.userNamespace to auto.',
      });
    }
  }
  const problem = await probe(undefined);
  if (problem === undefined) return why === undefined ? {} : { why };
  throw new DroverError('REQUIREMENT_MISSING', `Guests cannot be made on this host: ${problem}`, {
    hint: 'Run drover as root with all its capabilities, not in a container.',
  });
}

/** In the state directory where `/run` is read-only. */
async function idLocks(stateDir: StateDir): Promise<string> {
  try {
    await makePrivateDir(ID_LOCKS);
    return join(ID_LOCKS, 'ids');
  } catch {
    return stateDir.idLocks;
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
async function removeGuestDir(dir: GuestDir): Promise<void> {
  for (const file of [dir.daemonSocket, dir.agentSocket, dir.scratch]) await rm(file, { force: true });
  await rmdir(dir.root).catch(() => undefined);
  await rmdir(dir.path).catch(() => undefined);
}
