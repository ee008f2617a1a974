import type { GuestDriver, Machine, OwnGuestOptions } from '../guest/driver.js';
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

interface Entry {
  readonly id: string;
  readonly driver: Pick<GuestDriver, 'name' | 'consoleLog'>;
  readonly program: string;
  readonly startedWall: number;
  bootedWall: number | undefined;
  guest: PrivateGuest | undefined;
  readonly leave: () => void;
}

/** The books of guests that programs of people have to themselves, and of people's machines. */
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
    const entry = this.#enter(id, driver, program);
    try {
      const log = this.#log.child({ guest: id });
      const onEnded = entry.leave;
      entry.guest = await PrivateGuest.boot(driver, { id, own, bootTimeoutMs, clock, log, signal, onEnded });
      entry.bootedWall = clock.wallNow();
      return entry.guest;
    } catch (error) {
      entry.leave();
      throw error;
    }
  }

  /** Keeps a machine in the books until it has ended. @param start rejects if there is none */
  async keepMachine(
    id: string,
    driver: Entry['driver'],
    program: string,
    start: () => Promise<Machine>,
  ): Promise<Machine> {
    const entry = this.#enter(id, driver, program);
    try {
      const machine = await start();
      entry.bootedWall = this.#clock.wallNow();
      void machine.ended.then(entry.leave);
      return machine;
    } catch (error) {
      entry.leave();
      throw error;
    }
  }

  #enter(id: string, driver: Entry['driver'], program: string): Entry {
    const begun = this.#clock.now();
    const entry: Entry = {
      ...{ id, driver, program, startedWall: this.#clock.wallNow(), bootedWall: undefined, guest: undefined },
      leave: () => {
        this.#entries.delete(id);
        const durationMs = this.#clock.now() - begun;
        this.#emit({ type: 'program-ended', guest: id, program, durationMs });
      },
    };
    this.#entries.set(id, entry);
    this.#emit({ type: 'program-started', guest: id, program });
    return entry;
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
