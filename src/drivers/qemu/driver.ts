import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';

import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError } from '../../lib/errors.js';
import { humanBytes } from '../../lib/human.js';
import { listDirectory, makePrivateDir } from '../../lib/private-dir.js';
import { StateDir, type GuestDir } from '../../lib/state-dir.js';
import { bootFailed, ConsoleLogs } from '../console-directory.js';
import type {
  BootOptions,
  GuestDriver,
  ImageManifest,
  Machine,
  MachineOptions,
  RunningGuest,
} from '../../guest/driver.js';
import { greetGuest } from '../greet.js';
import { guestFiles, makeGuestKeys, type GuestKeys } from '../vm/guest-files.js';
import { loadImage, requireNative, requireNoShare, type GuestImage } from '../vm/image.js';
import { requireImagePath, vmIdentity, type VmOptions } from '../vm/identity.js';
import { NO_EXACT_STORE, StoreView } from '../vm/store-view.js';
import { makeScratchDisk, requireSpace, spaceWarning } from '../scratch-disk.js';
import { pickAccelerator, type PickedAccelerator } from './accelerator.js';
import type { Accelerator } from './arguments.js';
import { configDisk as configDiskOf } from './config-disk.js';
import { startConsoleMachine } from './console-machine.js';
import { QemuGuest, type QemuGuestSpec } from './guest.js';
import { requireReadable } from './machine.js';
import { outboundNetwork, type OutboundNetwork } from './outbound.js';
import type { PartsSpec } from './parts.js';
import { findQemuPrograms, type QemuPrograms } from './programs.js';
import { endLeftOver } from './reap.js';

const OLD_QEMU_WARNING =
  'this QEMU is older than 8.0, which emulates several cores at the same time with mistakes: guests share one core of the host';
const fewFiles = (files: number): string =>
  `the file system of the store has no file handles (as overlayfs in containers), so virtiofsd can have only ${files} files open: a build that looks at more ends its guest; a higher limit of open files (ulimit -n, LimitNOFILE=) raises that`;
/** A Unix socket's path on macOS; Linux allows 4 more. */
const MAX_SOCKET_PATH_BYTES = 103;

export interface QemuDriverOptions extends VmOptions {
  /** drover-namespace, which only Linux has. */
  readonly helper: string;
  readonly guest: VmOptions['guest'] & { readonly accelerator: Accelerator | 'auto' };
}

/** Guests that are machines of their own: a QEMU each, with the host's store by VirtioFS. */
export class QemuDriver implements GuestDriver {
  readonly name = 'qemu';
  readonly noHost = 'Guests of this driver are virtual machines; leave out --bind and --network host.';
  readonly ownClock = true;
  readonly systemsHint = 'choose an image that has it in its manifest (guest.image)';
  readonly manifest: ImageManifest;
  readonly #warnings: string[];
  readonly #options: QemuDriverOptions;
  readonly #image: GuestImage;
  readonly #programs: QemuPrograms;
  readonly #accelerator: Accelerator;
  readonly #nixConf: string;
  readonly #logs: ConsoleLogs;
  readonly #stateDir: StateDir;
  readonly #view: StoreView;
  readonly #networkCommand: readonly string[];

  private constructor(
    options: QemuDriverOptions,
    image: GuestImage,
    programs: QemuPrograms,
    { accelerator, warning }: PickedAccelerator,
    view: StoreView,
    network: OutboundNetwork,
  ) {
    this.#view = view;
    this.#networkCommand = network.command;
    this.#options = options;
    this.#stateDir = new StateDir(options.stateDir);
    this.#logs = new ConsoleLogs(this.#stateDir);
    this.#image = image;
    this.#programs = programs;
    this.#accelerator = accelerator;
    const slow = accelerator === 'tcg' && !programs.parallelTcg ? OLD_QEMU_WARNING : undefined;
    this.#warnings = [warning, slow, ...programs.warnings, ...network.warnings].filter(
      (text) => text !== undefined,
    );
    const { nixConf, manifest } = vmIdentity(options, image, image.systems);
    this.#nixConf = nixConf;
    this.manifest = manifest;
  }

  /**
   * Checks that this host can run the image, and how fast.
   * @throws DroverError `IMAGE_UNUSABLE`, `REQUIREMENT_MISSING`, `CONFIG_INVALID`
   */
  static async create(options: QemuDriverOptions): Promise<QemuDriver> {
    const { guest, env } = options;
    const stateDir = new StateDir(options.stateDir);
    const file = requireImagePath(
      'qemu',
      options,
      "Set guest.image to the path of an image's manifest.json; guest-config/debian/build.sh makes one.",
    );
    const image = await loadImage(file);
    if (options.native) requireNative(file, image);
    const programs = await findQemuPrograms(env, image.architecture);
    if (programs.virtiofsd === undefined) requireNoShare(file, image);
    await requireReadable(programs, image);
    if (guest.cores > availableParallelism()) {
      throw new DroverError(
        'CONFIG_INVALID',
        `guest.cores is ${guest.cores}, and this host has ${availableParallelism()}`,
        { hint: 'Lower guest.cores, or set it to 0 for all of them.' },
      );
    }
    if (guest.memoryBytes > totalmem()) {
      throw new DroverError(
        'CONFIG_INVALID',
        `guest.memory is ${humanBytes(guest.memoryBytes)}, and this host has ${humanBytes(totalmem())}`,
        { hint: 'Lower guest.memory.' },
      );
    }
    const longest = stateDir.guest('g999999').virtiofsd;
    if (Buffer.byteLength(longest) > MAX_SOCKET_PATH_BYTES) {
      throw new DroverError('CONFIG_INVALID', `stateDir is too long: ${longest} cannot be a socket's path`, {
        hint: `Choose one with at most ${MAX_SOCKET_PATH_BYTES - (longest.length - stateDir.path.length)} bytes.`,
      });
    }
    const network =
      guest.network === 'outbound'
        ? await outboundNetwork(options.helper, env)
        : { command: [], warnings: [] };
    await makePrivateDir(stateDir.path);
    const space = await spaceWarning(stateDir.path, guest.scratchSizeBytes);
    const picked = await pickAccelerator({
      programs,
      image,
      wanted: guest.accelerator,
      memoryFile: stateDir.accelerator,
    });
    const view = await StoreView.create(
      programs.virtiofsd === undefined ? 'raw' : guest.store,
      stateDir.listings,
      env,
    );
    const driver = new QemuDriver(options, image, programs, picked, view, network);
    if (space !== undefined) driver.#warnOnce(space);
    return driver;
  }

  get warnings(): readonly string[] {
    return this.#warnings;
  }

  consoleLog(id: string): string {
    return this.#logs.path(id);
  }

  async boot({ id, signal, onPhase }: BootOptions): Promise<RunningGuest> {
    const dir = this.#stateDir.guest(id);
    let consoleLog: ConsoleLog | undefined;
    try {
      await requireSpace(this.#stateDir.path, this.#options.guest.scratchSizeBytes);
      await makePrivateDir(dir.path);
      const log = (consoleLog = await this.#logs.open(id));
      const onStarted = (): void => {
        onPhase?.('start');
      };
      const running = await this.#start(id, dir, { consoleLog: log, onStarted }, signal);
      void running.exited.then(async () => {
        if (running.stopped) await rm(log.path, { force: true });
      });
      onPhase?.('greet');
      running.listings = this.#view.listingsFor(await greetGuest(running, this, signal));
      if (this.#view.lacking) this.#warnOnce(NO_EXACT_STORE);
      if (running.rememberedFiles !== undefined) this.#warnOnce(fewFiles(running.maxOpenFiles ?? 0));
      return running;
    } catch (cause) {
      await rm(dir.path, { recursive: true, force: true });
      throw bootFailed(id, cause, this.consoleLog(id), consoleLog?.tail() ?? '');
    }
  }

  async #start(
    id: string,
    dir: GuestDir,
    observers: Pick<QemuGuestSpec, 'consoleLog' | 'onStarted'>,
    signal: AbortSignal,
  ): Promise<QemuGuest> {
    const keys = makeGuestKeys();
    const spec = await this.#prepare(id, dir, keys, []);
    const cleanUp = (): Promise<void> => rm(dir.path, { recursive: true, force: true });
    const running = await QemuGuest.start({ id, ...spec, keys, ...observers, cleanUp }, signal);
    try {
      await writeFile(dir.pidFile, `${running.pid ?? ''}\n`, { mode: 0o600 });
      return running;
    } catch (error) {
      await running.kill();
      throw error;
    }
  }

  async startMachine(options: MachineOptions): Promise<Machine> {
    const { id, kernelParameters, share, signal } = options;
    const dir = this.#stateDir.guest(id);
    let consoleLog: ConsoleLog | undefined;
    try {
      if (share !== undefined && this.#programs.virtiofsd === undefined) throw noShare();
      await requireSpace(this.#stateDir.path, this.#options.guest.scratchSizeBytes);
      await makePrivateDir(dir.path);
      const log = (consoleLog = await this.#logs.open(id));
      const spec = await this.#prepare(id, dir, makeGuestKeys(), kernelParameters);
      const owned = share === undefined ? undefined : { directory: share, owner: await ownerOf(share) };
      const cleanUp = async (isOfUse: boolean): Promise<void> => {
        await rm(dir.path, { recursive: true, force: true });
        if (!isOfUse) await rm(log.path, { force: true });
      };
      return await startConsoleMachine({ ...spec, share: owned, consoleLog: log, cleanUp }, signal);
    } catch (cause) {
      await rm(dir.path, { recursive: true, force: true });
      signal.throwIfAborted();
      throw bootFailed(id, cause, this.consoleLog(id), consoleLog?.tail() ?? '');
    }
  }

  /** Makes what a guest has on disk. */
  async #prepare(
    id: string,
    dir: GuestDir,
    keys: GuestKeys,
    kernelParameters: readonly string[],
  ): Promise<Omit<PartsSpec, 'consoleLog' | 'cleanUp'>> {
    const { guest, storeDir } = this.#options;
    const files = guestFiles({
      facts: {
        name: id,
        scratchBytes: guest.scratchSizeBytes,
        network: guest.network,
        share: this.#programs.virtiofsd === undefined ? 'none' : 'virtiofs',
        store: this.#view.wanted,
      },
      nixConf: this.#nixConf,
      manifest: this.manifest,
      keys,
    });
    await writeFile(dir.configDisk, configDiskOf(files), { mode: 0o600 });
    await makeScratchDisk(dir.scratch, guest.scratchSizeBytes);
    const parameters = [this.#view.kernelParameters, ...kernelParameters, this.#image.commandLine];
    return {
      number: Number(id.slice(1)),
      programs: this.#programs,
      machine: {
        image: this.#image,
        accelerator: this.#accelerator,
        cores: guest.cores === 0 ? availableParallelism() : guest.cores,
        memoryBytes: guest.memoryBytes,
        commandLine: parameters.join(' '),
      },
      network: guest.network,
      networkCommand: this.#networkCommand,
      dir,
      storeDir,
    };
  }

  /**
   * Guests die with their supervisor if the kernel supports that; otherwise their pid is in their directory.
   */
  async reap(): Promise<readonly string[]> {
    const found: string[] = [];
    for (const id of await listDirectory(this.#stateDir.guests)) {
      const { path, pidFile } = this.#stateDir.guest(id);
      const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''));
      if (await endLeftOver(pid, path)) found.push(`ended the QEMU of guest ${id} (pid ${pid})`);
      await rm(path, { recursive: true, force: true });
      found.push(`removed the directory of guest ${id}`);
    }
    await this.#logs.prune();
    await this.#view.prune();
    return found;
  }

  #warnOnce(warning: string): void {
    if (!this.#warnings.includes(warning)) this.#warnings.push(warning);
  }
}

function noShare(): DroverError {
  return new DroverError(
    'REQUIREMENT_MISSING',
    'This host can share no directory: virtiofsd runs on Linux only',
    {
      hint: 'Leave out --share, or use the vz driver.',
    },
  );
}

/** As virtiofsd sees it: without root's rights it is in a user namespace, in which this user is root. */
async function ownerOf(directory: string): Promise<{ uid: number; gid: number }> {
  return process.getuid?.() === 0 ? await stat(directory) : { uid: 0, gid: 0 };
}
