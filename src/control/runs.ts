import { open } from 'node:fs/promises';
import { posix } from 'node:path';

import { z } from 'zod';

import type { NameInspector } from '../guest/case-hack.js';
import { lookUpInputs, type Inputs } from '../guest/provision.js';
import type { HostStore } from '../host-store/host-store.js';
import { DroverError, errorCode } from '../lib/errors.js';
import type { PrivateGuest } from '../pool/private-guest.js';
import type { PrivateGuestRequest } from '../pool/private-guest-table.js';
import { parseStorePath, type StorePath } from '../protocol/store-path.js';
import { systemOfProgram } from './program-system.js';
import type { HeldProgram } from './program-server.js';
import { onTerminal, parseRequest, terminalSchema } from './shells.js';

/** Guests with programs of people, beside those of the pool. */
const MAX_RUNS = 4;
const MAX_BINDS = 16;
/** Directories at the top in which a guest has its own. */
const GUESTS_OWN = /^\/(?:$|(?:nix|etc|dev|proc|sys|usr|s?bin|lib\w*|run|build)(?:\/|$))/;
/** Length of the name of a program in lists. */
const MAX_NAME_CHARACTERS = 200;
/** Bytes at the beginning of a program that tell its kind. */
const HEADER_BYTES = 64;

const text = z.string().max(1024 * 1024);
const path = z.string().max(4096);
const runSchema = z.object({
  terminal: terminalSchema,
  /** A path in the store, and the program's arguments. */
  argv: z.array(text).min(1).max(4096),
  /** Nix's name of the system; null: that of the program. */
  system: z.string().max(100).nullable(),
  /** Null: as guests have it. */
  network: z.enum(['host', 'none']).nullable(),
  /** Directories of the host, without links in their paths, that the guest has at the same path. */
  binds: z.array(z.object({ directory: path, readOnly: z.boolean() })).max(MAX_BINDS),
  /** Null: the guest's own. */
  directory: path.nullable(),
});
export type RunRequest = z.infer<typeof runSchema>;

export interface RunsParts {
  readonly host: HostStore;
  readonly caseHack: NameInspector;
  readonly boot: (request: PrivateGuestRequest) => Promise<PrivateGuest>;
  /** Systems whose programs guests run. */
  readonly systems: () => readonly string[];
  /** Why guests cannot have the host's network or directories; undefined if they can. */
  readonly noHost: () => string | undefined;
}

/** Runs programs of the host's store, each in a guest of its own. */
export class Runs {
  readonly #parts: RunsParts;
  #count = 0;

  constructor(parts: RunsParts) {
    this.#parts = parts;
  }

  /** @throws DroverError `RUN_REFUSED`, `NO_ROOM`, `BOOT_FAILED` */
  async open(given: unknown, gone: AbortSignal): Promise<HeldProgram> {
    const request = parseRequest(runSchema, given);
    const { argv, binds, network, directory } = request;
    const noHost = this.#parts.noHost();
    if (noHost !== undefined && (binds.length > 0 || network === 'host'))
      throw refused(
        `The guest cannot have ${binds.length > 0 ? 'a directory' : 'the network'} of this host`,
        noHost,
      );
    for (const { directory } of binds)
      if (!posix.isAbsolute(directory) || GUESTS_OWN.test(posix.normalize(directory)))
        throw refused(
          `${directory} cannot be bound: a guest has its own`,
          'Bind a directory below another one.',
        );
    const { program, storePath } = locate(argv[0] ?? '');
    if (this.#count >= MAX_RUNS)
      throw new DroverError('NO_ROOM', `${MAX_RUNS} programs run in guests of their own, the limit`, {
        hint: 'Wait until one of them has ended.',
      });
    this.#count += 1;
    const held: AsyncDisposable[] = [];
    const letGo = async (): Promise<void> => {
      for (const each of held.splice(0).reverse()) await each[Symbol.asyncDispose]();
      this.#count -= 1;
    };
    try {
      const host = await this.#parts.host.connect();
      held.push(host);
      const inputs = await lookUpInputs(host, [storePath], this.#parts.caseHack);
      await this.#requireRunnable(program, storePath, inputs, request.system);
      const guest = await this.#parts.boot({
        own: { binds, hostNetwork: network === 'host' },
        program: nameOfProgram(program),
        signal: gone,
      });
      held.push(guest);
      await guest.provision(inputs, host, gone);
      const words = ['drover-guest', 'run', network ?? 'own', directory ?? '', program, ...argv.slice(1)];
      const running = await guest.start(onTerminal(words, request.terminal));
      return { program: running, lost: guest.lost, [Symbol.asyncDispose]: letGo };
    } catch (error) {
      await letGo();
      throw gone.aborted ? gone.reason : error;
    }
  }

  async #requireRunnable(
    program: string,
    storePath: StorePath,
    { infos }: Inputs,
    wanted: string | null,
  ): Promise<void> {
    if (!infos.has(storePath))
      throw refused(
        `${storePath} is not valid in this host's store`,
        'Build it first, or name another program.',
      );
    const header = await headerOf(program);
    const found = systemOfProgram(header);
    const systems = this.#parts.systems();
    const system = found ?? wanted ?? systems[0] ?? '';
    if (wanted !== null && found !== undefined && found !== wanted)
      throw refused(
        `${program} is a program for ${found}, not for ${wanted}`,
        'Leave out --system, or build it for that system.',
      );
    if (!systems.includes(system))
      throw refused(
        `${program} is a program for ${system}; guests here run ${systems.join(', ')}`,
        'Build it for one of these systems.',
      );
  }
}

/** For people: without the store and the hash. */
export function nameOfProgram(path: string): string {
  return path.replace(/^\/nix\/store\/[^/-]*-/, '').slice(0, MAX_NAME_CHARACTERS);
}

/** @throws DroverError `RUN_REFUSED` */
function locate(program: string): { program: string; storePath: StorePath } {
  const normal = posix.normalize(program);
  const [, top] = /^(\/nix\/store\/[^/]+)(?:\/|$)/.exec(normal) ?? [];
  try {
    if (top !== undefined) return { program: normal, storePath: parseStorePath(top) };
  } catch {
    // As below.
  }
  throw refused(
    `${program.slice(0, 300)} is not in the store`,
    'Name a program below /nix/store, or a link to one.',
  );
}

/** The program may be a link, also to another path of the store. @throws DroverError `RUN_REFUSED` */
async function headerOf(program: string): Promise<Buffer> {
  try {
    await using file = await open(program, 'r');
    if ((await file.stat()).isDirectory())
      throw refused(`${program} is a directory`, 'Name a program in it.');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    if (errorCode(cause) === 'RUN_REFUSED') throw cause;
    throw new DroverError('RUN_REFUSED', `${program} cannot be read`, {
      cause,
      hint: 'Name a program that is there.',
    });
  }
}

function refused(message: string, hint: string): DroverError {
  return new DroverError('RUN_REFUSED', message, { hint });
}
