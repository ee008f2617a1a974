import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { DroverError } from '../../lib/errors.js';
import { fileTail } from '../../lib/console-log.js';
import { listDirectory, makePrivateDir } from '../../lib/private-dir.js';
import { StateDir, type GuestDir } from '../../lib/state-dir.js';
import { findProgram } from '../../lib/programs.js';
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
import { guestFiles, makeGuestKeys } from '../vm/guest-files.js';
import { loadImage, type GuestImage } from '../vm/image.js';
import { requireImagePath, vmIdentity, type VmOptions } from '../vm/identity.js';
import { NO_EXACT_STORE, optimiseWarning, StoreView } from '../vm/store-view.js';
import { makeScratchDisk, requireSpace, spaceWarning } from '../scratch-disk.js';
import { guestConfiguration } from './configuration.js';
import { startConsoleMachine } from './console-machine.js';
import { VzGuest } from './guest.js';
import { MAX_VSOCK_CONNECTIONS } from './helper-vsock.js';
import { helperConfigurationSchema, type HelperConfiguration, type HelperFacts } from './helper-protocol.js';
import {
  askHelper,
  entitlementWarning,
  explainHelper,
  importantFreeBytes,
  requireGuests,
} from './requirements.js';
import { macAddress, Slots } from './slots.js';
import { EMULATED, planTranslation, type TranslationOptions, type TranslationPlan } from './translators.js';

export interface VzDriverOptions extends VmOptions {
  /** Path of the vz-helper. */
  readonly helper: string;
  readonly guest: VmOptions['guest'] &
    TranslationOptions & {
      readonly nestedVirtualization: boolean;
    };
}

/**
 * Files that the kernels of all guests together may remember. macOS keeps a descriptor for each of them, and other
 * programs have been seen to fail at 57,000.
 */
const REMEMBERED_FILES = 20_000;

/** Slots below are those of guests. */
const FIRST_MACHINE_SLOT = 0x8000;

const OUTBOUND_WARNING =
  'guest.network outbound is the NAT of macOS: fixed-output builds also reach link-local addresses and services of this Mac that listen on all its addresses, though none that listen on its loopback only; guest.network none cuts them off';

/** Facts about the host and the image. */
interface Ground {
  readonly setpriv: string | undefined;
  readonly facts: HelperFacts;
  readonly image: GuestImage;
  readonly translation: TranslationPlan;
  readonly cores: number;
}

/** Guests that are VMs under macOS's Virtualization.framework: a vz-helper each, with the host's store by VirtioFS. */
export class VzDriver implements GuestDriver {
  readonly name = 'vz';
  readonly noHost = 'Guests of this driver are virtual machines; leave out --bind and --network host.';
  readonly ownClock = true;
  readonly manifest: ImageManifest;
  readonly brokenSystems = new Set<string>();
  readonly absentSystems: ReadonlySet<string>;
  readonly translatedSystems: ReadonlySet<string>;
  readonly systemsHint: string;
  readonly #options: VzDriverOptions;
  readonly #ground: Ground;
  readonly #nixConf: string;
  readonly #logs: ConsoleLogs;
  readonly #stateDir: StateDir;
  readonly #slots = new Slots();
  readonly #view: StoreView;
  /** A guest has found that Rosetta does not work, and that the emulator does. */
  #emulates = false;
  #spaceWarning: string | undefined;
  #optimiseWarning: string | undefined;

  private constructor(options: VzDriverOptions, ground: Ground, view: StoreView) {
    this.#view = view;
    this.#options = options;
    this.#ground = ground;
    this.#stateDir = new StateDir(options.stateDir);
    this.#logs = new ConsoleLogs(this.#stateDir);
    const { systems, systemsHint, rosetta, translators, absent, translated } = ground.translation;
    this.translatedSystems = new Set(translated);
    this.systemsHint = systemsHint;
    this.absentSystems = new Set(absent);
    const { nixConf, manifest } = vmIdentity(options, ground.image, systems, rosetta, ...translators);
    this.#nixConf = nixConf;
    this.manifest = manifest;
  }

  /**
   * Checks that this host can run the image.
   * @throws DroverError `REQUIREMENT_MISSING`, `IMAGE_UNUSABLE`, `CONFIG_INVALID`
   */
  static async create(options: VzDriverOptions): Promise<VzDriver> {
    const { listings } = new StateDir(options.stateDir);
    const view = await StoreView.create(options.guest.store, listings, options.env);
    const driver = new VzDriver(options, await survey(options), view);
    driver.#checkConfiguration();
    await makePrivateDir(options.stateDir);
    driver.#optimiseWarning = await optimiseWarning(options.env);
    driver.#spaceWarning = await spaceWarning(
      options.stateDir,
      options.guest.scratchSizeBytes,
      driver.#freeBytes,
    );
    return driver;
  }

  /** Systems that guests could build, determined without creating a driver. @throws as `create` */
  static async systems(options: VzDriverOptions): Promise<readonly string[]> {
    return (await survey(options)).translation.systems;
  }

  get warnings(): readonly string[] {
    const broken = [...this.brokenSystems].join(' and ');
    return [
      this.#ground.translation.warning,
      entitlementWarning(this.#ground.facts, this.#options.helper),
      this.#spaceWarning,
      this.#optimiseWarning,
      this.#view.lacking ? NO_EXACT_STORE : undefined,
      this.#options.guest.network === 'outbound' ? OUTBOUND_WARNING : undefined,
      broken === ''
        ? undefined
        : `no translator runs programs in guests (their consoles say why): ${broken} is not built here any more`,
      this.#emulates ? `Rosetta does not run programs in guests: x86_64-linux ${EMULATED}` : undefined,
    ].filter((text) => text !== undefined);
  }

  consoleLog(id: string): string {
    return this.#logs.path(id);
  }

  async boot({ id, signal, onPhase }: BootOptions): Promise<RunningGuest> {
    const { stateDir, guest, helper: program } = this.#options;
    const { slot, release } = this.#slots.take();
    const dir = this.#stateDir.guest(id);
    const cleanUp = async (): Promise<void> => {
      await rm(dir.path, { recursive: true, force: true });
      release();
    };
    try {
      await requireSpace(stateDir, guest.scratchSizeBytes, this.#freeBytes);
      await this.#logs.prepare(id);
      const keys = makeGuestKeys();
      await this.#writeFiles(id, dir, keys);
      const configuration = this.#configuration(id, slot);
      const { setpriv } = this.#ground;
      const rememberedFiles = Math.floor(REMEMBERED_FILES / this.#options.maxGuests);
      const running = await VzGuest.start(
        {
          ...{ id, program, setpriv, configuration, keys, rememberedFiles, cleanUp },
          onStarted: () => {
            onPhase?.('start');
          },
        },
        signal,
      );
      void running.exited.then(async () => {
        if (running.stopped) await rm(this.consoleLog(id), { force: true });
      });
      onPhase?.('greet');
      const hello = await greetGuest(running, this, signal);
      for (const system of hello.brokenSystems) this.#noteBroken(system);
      const [preferred] = this.#ground.translation.translators;
      this.#emulates ||= preferred === 'rosetta' && hello.translator === 'qemu-user';
      running.listings = this.#view.listingsFor(hello);
      return running;
    } catch (cause) {
      await cleanUp();
      const log = this.consoleLog(id);
      throw bootFailed(id, explainHelper(cause, program), log, await fileTail(log));
    }
  }

  async startMachine(options: MachineOptions): Promise<Machine> {
    const { id, slot, signal } = options;
    const { stateDir, guest, helper: program } = this.#options;
    const dir = this.#stateDir.guest(id);
    const log = this.consoleLog(id);
    try {
      await requireSpace(stateDir, guest.scratchSizeBytes, this.#freeBytes);
      await this.#logs.prepare(id);
      await this.#writeFiles(id, dir, makeGuestKeys());
      const configuration = this.#configuration(id, FIRST_MACHINE_SLOT + slot, options);
      const cleanUp = async (isOfUse: boolean): Promise<void> => {
        await rm(dir.path, { recursive: true, force: true });
        if (!isOfUse) await rm(log, { force: true });
      };
      const { setpriv } = this.#ground;
      return await startConsoleMachine({ program, setpriv, configuration, cleanUp }, signal);
    } catch (cause) {
      await rm(dir.path, { recursive: true, force: true });
      signal.throwIfAborted();
      throw bootFailed(id, explainHelper(cause, program), log, await fileTail(log));
    }
  }

  async #writeFiles(
    id: string,
    { path, files, scratch }: GuestDir,
    keys: ReturnType<typeof makeGuestKeys>,
  ): Promise<void> {
    const { network, scratchSizeBytes } = this.#options.guest;
    await makePrivateDir(path);
    await mkdir(files, { mode: 0o700 });
    const { rosetta, translators } = this.#ground.translation;
    const facts = {
      name: id,
      scratchBytes: scratchSizeBytes,
      network,
      share: 'virtiofs',
      store: this.#view.wanted,
      rosetta,
      translators,
    } as const;
    for (const { name, content, mode } of guestFiles({
      facts,
      nixConf: this.#nixConf,
      manifest: this.manifest,
      keys,
    })) {
      await writeFile(join(files, name), content, { mode });
    }
    await makeScratchDisk(scratch, scratchSizeBytes);
  }

  /** @param own what a person's own machine has besides */
  #configuration(
    id: string,
    slot: number,
    own?: Pick<MachineOptions, 'kernelParameters' | 'share'>,
  ): HelperConfiguration {
    const { stateDir, storeDir, guest } = this.#options;
    const { image, cores, translation } = this.#ground;
    return guestConfiguration({
      image,
      kernelParameters: [this.#view.kernelParameters, ...(own?.kernelParameters ?? [])].join(' '),
      cores,
      memoryBytes: guest.memoryBytes,
      dir: this.#stateDir.guest(id),
      storeDir,
      consoleLog: this.consoleLog(id),
      rosetta: translation.rosetta,
      mac: guest.network === 'none' ? undefined : macAddress(stateDir, slot),
      nested: guest.nestedVirtualization,
      share: own?.share,
      terminal: own !== undefined,
    });
  }

  /** Whatever has a bound, such as the length of a path, is found at the start instead of at the first build. */
  #checkConfiguration(): void {
    const { maxJobs } = this.#options;
    // Each job has a connection to the nix-daemon, and one is for sshd.
    if (maxJobs >= MAX_VSOCK_CONNECTIONS) {
      throw new DroverError(
        'CONFIG_INVALID',
        `pool.jobsPerGuest is ${maxJobs}, and a guest of the vz driver has at most ${MAX_VSOCK_CONNECTIONS - 1} jobs`,
        { hint: 'Lower pool.jobsPerGuest, and raise pool.maxGuests.' },
      );
    }
    const { error } = helperConfigurationSchema.safeParse(this.#configuration('g999999', 0));
    const issue = error?.issues[0];
    if (issue === undefined) return;
    const key = issue.path.join('.');
    const hint =
      key === 'vsock.path' || key === 'console.path'
        ? 'Choose a shorter stateDir.'
        : 'Choose another image as guest.image (docs/images.md).';
    throw new DroverError('CONFIG_INVALID', `Guests cannot be made: vz-helper's ${key}: ${issue.message}`, {
      hint,
    });
  }

  readonly #freeBytes = async (directory: string): Promise<number | undefined> =>
    await importantFreeBytes(this.#options.helper, this.#ground.setpriv, directory);

  #noteBroken(system: string): void {
    const [native] = this.manifest.systems;
    if (system !== native && this.manifest.systems.includes(system)) this.brokenSystems.add(system);
  }

  /** Guests end with their supervisor, since their helpers do, so only their directories are ever left. */
  async reap(): Promise<readonly string[]> {
    const found: string[] = [];
    for (const id of await listDirectory(this.#stateDir.guests)) {
      await rm(this.#stateDir.guest(id).path, { recursive: true, force: true });
      found.push(`removed the directory of guest ${id}`);
    }
    await this.#logs.prune();
    await this.#view.prune();
    return found;
  }
}

async function survey(options: VzDriverOptions): Promise<Ground> {
  const { guest, helper, env } = options;
  const setpriv = process.platform === 'linux' ? await findProgram(env, 'setpriv') : undefined;
  const facts = await askHelper(helper, setpriv);
  const file = requireImagePath(
    'vz',
    options,
    "Set guest.image to the path of an image's manifest.json, as the nix-darwin module does (docs/images.md).",
  );
  const image = await loadImage(file);
  const cores = requireGuests(facts, file, image, guest);
  return { setpriv, facts, image, cores, translation: planTranslation(image, facts, guest) };
}
