import type { GuestDriver, OwnGuestOptions } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import type { PoolEvent, ProgramGuestSnapshot } from './events.js';
import { PrivateGuest } from './private-guest.js';

export interface PrivateGuestRequest {
  readonly own: OwnGuestOptions;
  /** Name of the program that it is for, for people. */
  readonly program: string;
  /** Gives up the boot. */
  readonly signal: AbortSignal;
}

export interface PrivateGuestParts {
  readonly id: string;
  readonly driver: GuestDriver;
  readonly bootTimeoutMs: number;
}

interface Entry extends PrivateGuestParts {
  readonly program: string;
  readonly startedWall: number;
  bootedWall: number | undefined;
  guest: PrivateGuest | undefined;
}

/** The books of guests that programs of people have to themselves. */
export class PrivateGuests {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #emit: (event: PoolEvent) => void;
  readonly #entries = new Map<string, Entry>();

  constructor(clock: Clock, log: Log, emit: (event: PoolEvent) => void) {
    this.#clock = clock;
    this.#log = log;
    this.#emit = emit;
  }

  /** @throws DroverError `BOOT_FAILED` */
  async boot(parts: PrivateGuestParts, { own, program, signal }: PrivateGuestRequest): Promise<PrivateGuest> {
    const { id, driver, bootTimeoutMs } = parts;
    const clock = this.#clock;
    const begun = clock.now();
    const entry: Entry = {
      ...parts,
      ...{ program, startedWall: clock.wallNow(), bootedWall: undefined, guest: undefined },
    };
    const onEnded = (): void => {
      this.#entries.delete(id);
      this.#emit({ type: 'program-ended', guest: id, program, durationMs: clock.now() - begun });
    };
    this.#entries.set(id, entry);
    this.#emit({ type: 'program-started', guest: id, program });
    try {
      const log = this.#log.child({ guest: id });
      entry.guest = await PrivateGuest.boot(driver, { id, own, bootTimeoutMs, clock, log, signal, onEnded });
      entry.bootedWall = clock.wallNow();
      return entry.guest;
    } catch (error) {
      onEnded();
      throw error;
    }
  }

  get snapshots(): ProgramGuestSnapshot[] {
    return [...this.#entries.values()].map(({ id, driver, program, startedWall, bootedWall, guest }) => ({
      id,
      driver: driver.name,
      program,
      startedAt: new Date(startedWall).toISOString(),
      bootedAt: bootedWall === undefined ? null : new Date(bootedWall).toISOString(),
      scratch: guest?.usage.scratch ?? null,
      memory: guest?.usage.memory ?? null,
      consoleLog: driver.consoleLog(id),
    }));
  }
}
