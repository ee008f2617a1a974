import type { Duplex } from 'node:stream';

import type {
  BootOptions,
  BootPhase,
  ExecResult,
  GuestDriver,
  GuestNotice,
  ImageManifest,
  RunningGuest,
} from '../../src/guest/driver.js';
import type { RunningProgram } from '../../src/guest/program.js';
import { Emitter } from '../../src/lib/emitter.js';
import { DroverError } from '../../src/lib/errors.js';

/** Behaviour of a guest that is told to end. */
export type EndBehaviour = 'exit' | 'hang' | 'reject' | 'throw';

/** A guest that lives and dies as the test says. */
export class FakeGuest implements RunningGuest {
  readonly id: string;
  readonly exited: Promise<string>;
  readonly calls: string[] = [];
  onStop: EndBehaviour = 'exit';
  onKill: EndBehaviour = 'exit';
  readonly notices = new Emitter<GuestNotice>();
  /** Times that its clock was set to, in seconds since 1970. */
  readonly clocks: number[] = [];
  /** Registrations that were started, with input or without. */
  registers = 0;
  scratchUsedRatio = 0;
  shareRetries = 0;
  gone = false;
  /** How its nix-daemon answers a probe. */
  daemon: 'answers' | 'hangs' | 'fails' = 'answers';
  probes = 0;
  readonly #exit: (how: string) => void;
  #setClock: 'exit' | 'fail' | 'hang' = 'exit';
  #clockWaiters: (() => void)[] = [];

  constructor(id: string) {
    this.id = id;
    let exit!: (how: string) => void;
    this.exited = new Promise((resolve) => {
      exit = resolve;
    });
    this.#exit = exit;
  }

  async exec(argv: readonly string[], stdin: string | Promise<string> = ''): Promise<ExecResult> {
    const [, verb = '', value] = argv;
    if (verb === 'register') {
      this.registers += 1;
      await stdin;
    }
    this.calls.push(verb);
    if (this.gone) throw new DroverError('GUEST_GONE', `The guest ${this.id} is gone`);
    if (verb === 'set-clock') return await this.#answerSetClock(Number(value));
    const stats = {
      scratchTotalBytes: 1000,
      scratchUsedBytes: 1000 * this.scratchUsedRatio,
      scratchFreeBytes: 1000 * (1 - this.scratchUsedRatio),
      uptimeSeconds: 1,
      shareRetries: this.shareRetries,
    };
    return { exitCode: 0, stdout: verb === 'stats' ? JSON.stringify(stats) : '', stderr: '' };
  }

  /** Sets the outcome of setting its clock, also for attempts that hang. */
  setClockBehaviour(what: 'exit' | 'fail' | 'hang'): void {
    this.#setClock = what;
    if (what !== 'hang') for (const resume of this.#clockWaiters.splice(0)) resume();
  }

  async #answerSetClock(seconds: number): Promise<ExecResult> {
    if (this.#setClock === 'hang') await new Promise<void>((resolve) => this.#clockWaiters.push(resolve));
    if (this.#setClock === 'fail') return { exitCode: 1, stdout: '', stderr: 'cannot set the clock' };
    this.clocks.push(seconds);
    return { exitCode: 0, stdout: '', stderr: '' };
  }

  /** Stands in for a handshake with its nix-daemon. */
  async probe(): Promise<void> {
    this.probes += 1;
    if (this.daemon === 'hangs') await this.exited;
    if (this.daemon === 'fails' || this.gone) throw new DroverError('GUEST_GONE', 'connection refused');
  }

  start(): Promise<RunningProgram> {
    return Promise.reject(new DroverError('GUEST_GONE', 'A fake guest has no programs'));
  }

  openDaemon(): Promise<Duplex> {
    return Promise.reject(new DroverError('GUEST_GONE', 'A fake guest has no daemon'));
  }

  stop(): Promise<void> {
    this.calls.push('stop');
    return this.#end(this.onStop, 'it ended with exit status 0');
  }

  kill(): Promise<void> {
    this.calls.push('kill');
    return this.#end(this.onKill, 'it was killed by SIGKILL');
  }

  /** It ends by itself. */
  die(how: string): void {
    this.gone = true;
    this.#exit(how);
  }

  #end(behaviour: EndBehaviour, how: string): Promise<void> {
    switch (behaviour) {
      case 'exit':
        this.die(how);
        return Promise.resolve();
      case 'hang':
        return this.exited.then(() => undefined);
      case 'reject':
        return Promise.reject(new Error('the guest does not listen'));
      case 'throw':
        throw new Error('the guest cannot be spoken to');
    }
  }
}

/** A boot that the test brings to its end. */
export interface FakeBoot {
  readonly id: string;
  readonly signal: AbortSignal;
  /** The boot has come so far. */
  reach(phase: BootPhase): void;
  /** The guest runs. It is returned as it will be given to the pool. */
  succeed(): FakeGuest;
  fail(error: Error): void;
}

/** Makes fake guests, each when the test says so. */
export class FakeDriver implements GuestDriver {
  readonly name = 'fake';
  ownClock = true;
  readonly systemsHint = 'ask for another driver';
  readonly warnings = [];
  readonly manifest: ImageManifest = {
    generation: 'fake',
    nixVersion: '2.8.0',
    protocol: { major: 1, minor: 33, features: [] },
    systems: ['x86_64-linux'],
  };
  startMachine: NonNullable<GuestDriver['startMachine']> = () =>
    Promise.reject(new Error('this test has no machines'));
  /** By guest: boots that have not come to an end. */
  readonly boots = new Map<string, FakeBoot>();
  readonly guests = new Map<string, FakeGuest>();
  /** Ids of all requested guests, in order. */
  readonly asked: string[] = [];
  /** Whether a boot ends when its signal aborts, as it should. */
  heedsAbort = true;
  /** Thrown by `boot` itself, without a promise. */
  throws: Error | undefined;

  consoleLog(id: string): string {
    return `/state/logs/${id}.log`;
  }

  boot({ id, signal, onPhase }: BootOptions): Promise<RunningGuest> {
    this.asked.push(id);
    if (this.throws !== undefined) throw this.throws;
    return new Promise<RunningGuest>((resolve, reject) => {
      const fail = (error: Error): void => {
        this.boots.delete(id);
        reject(error);
      };
      signal.addEventListener('abort', () => {
        if (this.heedsAbort) fail(this.bootError(id, 'it was killed by SIGKILL'));
      });
      this.boots.set(id, {
        id,
        signal,
        reach: (phase) => onPhase?.(phase),
        fail,
        succeed: () => {
          const guest = new FakeGuest(id);
          this.boots.delete(id);
          this.guests.set(id, guest);
          resolve(guest);
          return guest;
        },
      });
    });
  }

  reap(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  /** The same driver, with guests of another image. */
  ofGeneration(generation: string): GuestDriver {
    return {
      name: this.name,
      ownClock: this.ownClock,
      warnings: this.warnings,
      systemsHint: this.systemsHint,
      manifest: { ...this.manifest, generation },
      consoleLog: (id) => this.consoleLog(id),
      boot: (options) => this.boot(options),
      reap: () => this.reap(),
    };
  }

  /** The error that a driver gives. */
  bootError(id: string, why: string): DroverError {
    return new DroverError(
      'BOOT_FAILED',
      `The guest ${id} did not boot: ${why}\n(console log: ${this.consoleLog(id)})`,
    );
  }

  /** Guests and boots that hold resources of the host. */
  get alive(): number {
    return this.boots.size + [...this.guests.values()].filter(({ gone }) => !gone).length;
  }

  bootOf(id: string): FakeBoot {
    const boot = this.boots.get(id);
    if (boot === undefined) throw new Error(`${id} is not booting; it is ${[...this.boots.keys()].join()}`);
    return boot;
  }

  guestOf(id: string): FakeGuest {
    const guest = this.guests.get(id);
    if (guest === undefined) throw new Error(`There is no guest ${id}`);
    return guest;
  }
}
