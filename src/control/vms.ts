import { realpath, stat } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { dirname, posix } from 'node:path';

import { z } from 'zod';

import type { GuestDriver, Machine, MachineOptions } from '../guest/driver.js';
import type { HostStore } from '../host-store/host-store.js';
import { DroverError, errorCode } from '../lib/errors.js';
import { humanBytes } from '../lib/human.js';
import { parseStorePath } from '../protocol/store-path.js';
import { machineLost, programOf } from './machine-program.js';
import type { HeldProgram } from './program-server.js';
import { nameOfProgram } from './runs.js';
import { parseRequest, terminalSchema, type TerminalRequest } from './shells.js';

/** Machines of people, beside the guests of the pool. */
const MAX_MACHINES = 4;
const MEBIBYTE = 1024 * 1024;
/** As of `guest.memory`. */
const MIN_MEMORY_BYTES = 256 * MEBIBYTE;

const path = z.string().min(1).max(4096);
const vmSchema = z.object({
  terminal: terminalSchema,
  /** The manifest of an image, without links in its path. */
  image: path,
  /** Null, as below: that of guests. */
  memoryBytes: z.number().int().min(0).nullable(),
  cores: z.number().int().min(0).nullable(),
  /** A directory of the host that the machine can write; null: none. */
  share: path.nullable(),
});
export type VmRequest = z.infer<typeof vmSchema>;

/** Differences from the guests that build. */
export interface MachineConfig {
  readonly image: string;
  readonly memoryBytes: number | undefined;
  readonly cores: number | undefined;
}

export interface VmsParts {
  readonly host: HostStore;
  /** The driver of guests that build. */
  readonly driver: () => Pick<GuestDriver, 'name' | 'startMachine'>;
  /** Makes a driver like that one. */
  readonly createDriver: (config: MachineConfig) => Promise<GuestDriver>;
  readonly start: (
    driver: GuestDriver,
    name: string,
    options: Omit<MachineOptions, 'id'>,
  ) => Promise<Machine>;
}

/** Runs NixOS systems of people, each in a virtual machine of its own. */
export class Vms {
  readonly #parts: VmsParts;
  readonly #slots = new Set<number>();

  constructor(parts: VmsParts) {
    this.#parts = parts;
  }

  /** @throws DroverError `VM_REFUSED`, `NO_ROOM`, `BOOT_FAILED`, and those of the driver about the image */
  async open(given: unknown, gone: AbortSignal): Promise<HeldProgram> {
    const request = parseRequest(vmSchema, given);
    const wanted = this.#parts.driver();
    if (wanted.startMachine === undefined) throw noMachines(wanted.name);
    requireSize(request);
    const share = request.share === null ? undefined : await directoryToShare(request.share);
    const slot = this.#takeSlot();
    const held: AsyncDisposable[] = [];
    const letGo = async (): Promise<void> => {
      for (const each of held.splice(0).reverse()) await each[Symbol.asyncDispose]();
      this.#slots.delete(slot);
    };
    try {
      const host = await this.#parts.host.connect();
      held.push(host);
      await pin(host, request.image);
      const { image, memoryBytes, cores } = request;
      const driver = await this.#createDriver({
        image,
        memoryBytes: memoryBytes ?? undefined,
        cores: cores ?? undefined,
      });
      const kernelParameters = [
        ...consoleOf(request.terminal),
        ...(share === undefined ? [] : ['drover.share']),
      ];
      const machineOptions = { slot, kernelParameters, share, signal: gone };
      const machine = await this.#parts.start(driver, nameOfProgram(dirname(image)), machineOptions);
      held.push({ [Symbol.asyncDispose]: () => machine.kill() });
      const lost = new AbortController();
      void machine.ended.then(({ poweredOff, how }) => {
        if (!poweredOff) lost.abort(machineLost(how));
      });
      return { program: programOf(machine), lost: lost.signal, [Symbol.asyncDispose]: letGo };
    } catch (error) {
      await letGo();
      throw gone.aborted ? gone.reason : error;
    }
  }

  /** @throws DroverError `NO_ROOM` */
  #takeSlot(): number {
    const slot = Array.from({ length: MAX_MACHINES }, (_, number) => number).find(
      (number) => !this.#slots.has(number),
    );
    if (slot === undefined)
      throw new DroverError('NO_ROOM', `${MAX_MACHINES} machines of drover vm run, the limit`, {
        hint: 'Wait until one of them has ended.',
      });
    this.#slots.add(slot);
    return slot;
  }

  async #createDriver(config: MachineConfig): Promise<GuestDriver> {
    try {
      return await this.#parts.createDriver(config);
    } catch (cause) {
      if (!(cause instanceof DroverError) || errorCode(cause) !== 'IMAGE_UNUSABLE') throw cause;
      throw new DroverError('IMAGE_UNUSABLE', cause.message, {
        cause,
        hint: 'Build config.system.build.droverImage of a NixOS system that imports nixosModules.guest.',
      });
    }
  }
}

/** The error where the driver has no virtual machines. */
export function noMachines(driver: string): DroverError {
  return refused(
    `The ${driver} driver has no virtual machines`,
    'Set driver to qemu (on a Mac: vz) and guest.image in the configuration, and restart Drover.',
  );
}

/** @throws DroverError `VM_REFUSED` */
export function requireSize({ memoryBytes, cores }: Pick<VmRequest, 'memoryBytes' | 'cores'>): void {
  if (memoryBytes !== null && (memoryBytes < MIN_MEMORY_BYTES || memoryBytes % MEBIBYTE !== 0))
    throw refused(
      `--memory is ${humanBytes(memoryBytes)}; a machine has whole MiB, from ${humanBytes(MIN_MEMORY_BYTES)}`,
      'Name a size such as 2GiB.',
    );
  if (memoryBytes !== null && memoryBytes > totalmem())
    throw refused(
      `--memory is ${humanBytes(memoryBytes)}, and this host has ${humanBytes(totalmem())}`,
      'Name a smaller size.',
    );
  if (cores !== null && cores > availableParallelism())
    throw refused(
      `--cores is ${cores}, and this host has ${availableParallelism()}`,
      'Name fewer; 0 is as many as there are.',
    );
}

/** @returns its path without links @throws DroverError `VM_REFUSED` */
export async function directoryToShare(named: string): Promise<string> {
  const hint = 'Name a directory of this host.';
  requirePlain(named);
  if (!posix.isAbsolute(named)) throw refused(`${named} is not an absolute path`, hint);
  const directory = await realpath(named).catch((cause: unknown) => {
    throw new DroverError('VM_REFUSED', `${named} cannot be shared`, { cause, hint });
  });
  // A link may lead to any name.
  requirePlain(directory);
  if ((await stat(directory)).isDirectory()) return directory;
  throw refused(`${named} cannot be shared: it is not a directory`, hint);
}

function requirePlain(directory: string): void {
  if (/[,\p{Cc}]/u.test(directory))
    throw refused(
      `${JSON.stringify(directory)} cannot be shared: its name has a comma or a control character`,
      'Name a directory whose path has neither.',
    );
}

/** Keeps an image of the store while the connection is open. @throws DroverError `VM_REFUSED` */
async function pin(host: Awaited<ReturnType<HostStore['connect']>>, image: string): Promise<void> {
  const [, top] = /^(\/nix\/store\/[^/]+)(?:\/|$)/.exec(posix.normalize(image)) ?? [];
  if (top === undefined) return;
  const storePath = parseStorePath(top);
  await host.addTempRoots([storePath]);
  if ((await host.queryValidPaths([storePath])).length > 0) return;
  throw refused(`${top} is not valid in this host's store`, 'Build it first.');
}

function consoleOf(terminal: TerminalRequest): string[] {
  const { columns, rows, type } = terminal ?? { columns: 80, rows: 24, type: 'dumb' };
  return [`drover.console=${columns}x${rows},${type}`];
}

function refused(message: string, hint: string): DroverError {
  return new DroverError('VM_REFUSED', message, { hint });
}
