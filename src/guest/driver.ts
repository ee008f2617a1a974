import type { Duplex, Readable, Writable } from 'node:stream';

import type { Emitter } from '../lib/emitter.js';
import { DroverError } from '../lib/errors.js';
import type { Listings } from './stored-listings.js';
import type { ProgramRequest, RunningProgram } from './program.js';

/** Description of a guest image, recorded when it was made. The guest's `hello` prints the same. */
export interface ImageManifest {
  /** Changes with anything in the image: guests of another generation are retired. */
  readonly generation: string;
  readonly nixVersion: string;
  /** The worker protocol that the image's nix-daemon speaks. */
  readonly protocol: { readonly major: number; readonly minor: number; readonly features: readonly string[] };
  /** Nix systems that its builds can have, its own first. */
  readonly systems: readonly string[];
}

/** Result of a command in a guest. Outputs are cut at 1 MiB each. */
export interface ExecResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Memory of everything in a guest, its scratch included where that is in memory. */
export interface GuestMemory {
  /** Number of processes that the kernel has killed because the guest was at its limit. */
  readonly kills: number;
  /** At this moment, the page cache included; undefined where the kernel does not say. */
  readonly usedBytes: number | undefined;
  /** Undefined where the kernel does not say. */
  readonly peakBytes: number | undefined;
  readonly limitBytes: number;
}

/** An event that a guest's driver reports about it. */
export type GuestNotice =
  /** The host goes to sleep, and the guest with it. */
  | { readonly kind: 'sleep' }
  /** Both are awake again, and the guest's clock is behind. */
  | { readonly kind: 'wake' }
  /** The guest is unfit for new work: the reason, for people. */
  | { readonly kind: 'unfit'; readonly why: string }
  /** For people, and of no consequence. */
  | { readonly kind: 'warning'; readonly text: string };

/** A guest that runs. After `exited` has settled every other call fails. */
export interface RunningGuest {
  /**
   * Runs a verb of drover-guest. Rejects when it cannot be run at all; a failure of the verb is its exit code. It is
   * started at once, also when its input is not known yet.
   */
  exec(argv: readonly string[], stdin?: string | Promise<string>): Promise<ExecResult>;
  /** Runs a program as root, for a person. It ends with the guest. */
  start(request: ProgramRequest): Promise<RunningProgram>;
  /** A byte stream to the guest's nix-daemon. */
  openDaemon(): Promise<Duplex>;
  /** Asks the guest to end, and kills it if it does not. Settles when nothing of it is left on the host. */
  stop(): Promise<void>;
  /** Ends it at once. Settles when nothing of it is left on the host. */
  kill(): Promise<void>;
  /** Settles, never rejects, when the guest is gone: how it ended, for people. */
  readonly exited: Promise<string>;
  /** Undefined, or of undefined: the host does not limit the guest's memory, or the guest does that itself. */
  memory?(): GuestMemory | undefined;
  /**
   * Upper bound on the number of files, directories and links in shared paths before the guest's lookup cache
   * must be dropped. Undefined: no bound.
   */
  readonly rememberedFiles?: number | undefined;
  /**
   * How to list the host's paths for the guest. Its store then shows listed paths only, each exactly as listed, so none
   * has to be copied for its names. Undefined: it sees the share as it is.
   */
  readonly listings?: Listings | undefined;
  /** Undefined: nothing happens to it that its driver could tell of. */
  readonly notices?: Emitter<GuestNotice>;
  /** Texts of all `warning` notices so far, including those before a listener could be added. */
  readonly warnings?: readonly string[];
}

/** How a guest that one person has to itself differs from others. */
export interface OwnGuestOptions {
  /** Directories of the host, without links in their paths, that it has at the same path. */
  readonly binds: readonly { readonly directory: string; readonly readOnly: boolean }[];
  /** It has the host's network. */
  readonly hostNetwork: boolean;
}

/**
 * Part of a boot. `prepare`: disks, keys and processes on the host, up to where the guest starts. `start`: the guest's
 * kernel, where it has one, and its system, up to where it can be reached. `greet`: first contact.
 */
export type BootPhase = 'prepare' | 'start' | 'greet';

export interface BootOptions {
  /** Names the guest in logs, files and inside itself: `g` and a number. */
  readonly id: string;
  /** Boot no longer: what was started is removed again, and `boot` rejects. */
  readonly signal: AbortSignal;
  /** Undefined: it is as all others. Only for drivers without `noHost`. */
  readonly own?: OwnGuestOptions | undefined;
  /** The boot has come to the next phase; it begins with `prepare`. */
  readonly onPhase?: ((phase: BootPhase) => void) | undefined;
}

/** A virtual machine of a person's own, with a system of theirs: no build comes to it. */
export interface Machine {
  /** Output of its console. Ends with the machine. */
  readonly output: Readable;
  /** Takes what is typed on its console. */
  readonly input: Writable;
  /** Settles, never rejects, when nothing of the machine is left on the host. */
  readonly ended: Promise<MachineEnd>;
  /** Ends it at once. Settles as `ended`. */
  kill(): Promise<void>;
}

export interface MachineEnd {
  /** Whether its system powered it off. */
  readonly poweredOff: boolean;
  /** For people. */
  readonly how: string;
}

export interface MachineOptions {
  /** As of a guest. */
  readonly id: string;
  /** A number that no other machine has at the same time, from 0. */
  readonly slot: number;
  /** For its kernel, besides the image's own. */
  readonly kernelParameters: readonly string[];
  /** A directory of the host, without links in its path, that it can write; undefined: none. */
  readonly share: string | undefined;
  /** Starts it no longer: what was started is removed again, and the start rejects. */
  readonly signal: AbortSignal;
}

/** How guests are made. One file or folder an implementation; nothing else knows which one it is. */
export interface GuestDriver {
  readonly name: string;
  readonly manifest: ImageManifest;
  /** Systems of the manifest that cannot be built for after all, as soon as a guest has said so. */
  readonly brokenSystems?: ReadonlySet<string>;
  /** Systems that the image can build and this host cannot, such as x86_64-linux on a Mac without Rosetta. */
  readonly absentSystems?: ReadonlySet<string>;
  /** Systems whose programs a translator runs, such as Rosetta: builds of them are known to hang. */
  readonly translatedSystems?: ReadonlySet<string>;
  /** How to add systems to the manifest: a sentence without its full stop, for people. */
  readonly systemsHint: string;
  /** Whether a guest has a clock of its own, which `set-clock` may set. */
  readonly ownClock: boolean;
  /** Why its guests cannot have directories or the network of the host: a sentence. Undefined: they can. */
  readonly noHost?: string;
  /** Degraded features on this host: a sentence each, for people. The list can grow. */
  readonly warnings: readonly string[];
  /** The file with what the guest printed; it outlives a guest that failed. */
  consoleLog(id: string): string;
  /**
   * Boots a guest, up to where it answers `hello` and its daemon listens. When it rejects, nothing is left behind but
   * the console log, whose tail is in the error.
   */
  boot(options: BootOptions): Promise<RunningGuest>;
  /**
   * Starts a machine from the driver's image, for one person. Undefined: the driver has no virtual machines.
   * @throws DroverError; nothing of the machine is left then
   */
  startMachine?(options: MachineOptions): Promise<Machine>;
  /** Removes what an earlier supervisor left behind, and says what that was, one line each. */
  reap(): Promise<readonly string[]>;
}

/** The error of every call to a guest that has ended. */
export function guestGone(id: string): DroverError {
  return new DroverError('GUEST_GONE', `The guest ${id} is gone`, { context: { guest: id } });
}
