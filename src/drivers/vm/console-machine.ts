import { PassThrough, type Readable, type Writable } from 'node:stream';

import type { Machine, MachineEnd } from '../../guest/driver.js';
import { systemClock, type Clock } from '../../lib/clock.js';

/** Time from a kernel's panic to the end of the machine, in which the console's last lines arrive, in milliseconds. */
const PANIC_GRACE_MS = 2_000;
/** Time by which a machine's process may outlive the first sign of its end, in milliseconds. */
const PROCESS_END_GRACE_MS = 1_000;
const PANICKED = 'its kernel panicked';
/** Lines at the end of a console in which the reason of a machine's end is looked for. */
const LAST_LINES = 200;

export interface ConsoleMachineSpec {
  /** The process that is the machine: QEMU, or vz-helper. */
  readonly process: { readonly name: string; readonly exited: Promise<string> };
  /** Whether that process has ended as it does when a machine is powered off. */
  readonly endedWell: () => boolean;
  /**
   * Whether the process starts the machine again after a panic, and does not end. Its console is then believed: a user
   * who prints a panic there ends their own machine.
   */
  readonly restartsAfterPanic: boolean;
  /** When one settles, the machine cannot continue: the reason, for people. */
  readonly faults: readonly Promise<string>[];
  /** The console. */
  readonly source: Readable;
  readonly input: Writable;
  /** Ends every process of the machine, and waits for that. */
  readonly killAll: () => Promise<void>;
  /** The last `lines` lines of the console. */
  readonly consoleTail: (lines: number) => string | Promise<string>;
  /** Removes what the machine had on disk. Runs last. @param isOfUse whether its console may explain its end */
  readonly cleanUp: (isOfUse: boolean) => Promise<void>;
  readonly clock?: Clock;
}

/** A machine of processes that run. */
export class ConsoleMachine implements Machine {
  readonly output = new PassThrough();
  readonly input: Writable;
  readonly ended: Promise<MachineEnd>;
  readonly #spec: ConsoleMachineSpec;
  #reason: string | undefined;
  #isKilled = false;

  constructor(spec: ConsoleMachineSpec) {
    this.#spec = spec;
    const { source, input, process, faults, restartsAfterPanic } = spec;
    this.input = input;
    for (const stream of [source, input]) stream.on('error', () => undefined);
    if (restartsAfterPanic) {
      const panic = new PanicWatch();
      source.on('data', (chunk: Buffer) => {
        if (this.#reason !== undefined || !panic.sees(chunk)) return;
        this.#reason = PANICKED;
        this.#endAfter(PANIC_GRACE_MS, PANICKED);
      });
    }
    source.pipe(this.output);
    for (const fault of faults)
      void fault.then((why) => {
        this.#endAfter(PROCESS_END_GRACE_MS, why);
      });
    this.ended = process.exited.then((how) => this.#dispose(how));
  }

  async kill(): Promise<void> {
    this.#isKilled = true;
    this.#drop();
    await this.#spec.killAll();
    await this.ended;
  }

  #endAfter(graceMs: number, why: string): void {
    const { process, clock = systemClock } = this.#spec;
    const cancel = clock.after(graceMs, () => {
      this.#reason ??= why;
      this.#drop();
      void this.#spec.killAll();
    });
    void process.exited.then(cancel);
  }

  /** Nothing waits for a reader any longer. */
  #drop(): void {
    const { source } = this.#spec;
    source.unpipe(this.output);
    source.resume();
    this.output.end();
  }

  async #dispose(how: string): Promise<MachineEnd> {
    const { process, endedWell, killAll, consoleTail, cleanUp } = this.#spec;
    const endsWell = endedWell();
    await killAll();
    const tail = await consoleTail(LAST_LINES);
    const failure = this.#reason ?? failedPart(tail) ?? (endsInPanic(tail) ? PANICKED : undefined);
    const poweredOff = endsWell && failure === undefined;
    await cleanUp(!poweredOff && !this.#isKilled);
    return { poweredOff, how: failure ?? `its ${process.name}: ${how}` };
  }
}

/** Whether a kernel's last message is not followed by that of an orderly end. */
function endsInPanic(tail: string): boolean {
  const panic = tail.lastIndexOf('Kernel panic - not syncing');
  return panic >= 0 && !tail.slice(panic).includes('reboot: Power down');
}

/** Looks for a kernel's last message at the start of a line. */
class PanicWatch {
  #rest = '\n';

  sees(chunk: Buffer): boolean {
    const text = this.#rest + chunk.toString('latin1');
    // Longer than the beginning of that line.
    this.#rest = text.slice(-100);
    return /\n(?:\[ *\d+\.\d+\] )?Kernel panic - not syncing/.test(text);
  }
}

/**
 * The line in which a guest's system says that it powers off because a part of it has failed. It also says how parts
 * end in an orderly shutdown.
 * @param tail of the console
 */
function failedPart(tail: string): string | undefined {
  return tail
    .split('\n')
    .filter((line) => /^drover: .+ has (?:ended|failed)(?!: success)/.test(line))
    .at(-1)
    ?.trim();
}
