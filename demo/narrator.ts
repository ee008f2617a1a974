import { wrap } from '../src/cli/table.js';
import { count, humanBytes } from '../src/lib/human.js';
import type { DroverEvent } from '../src/control/api.js';

/** Width of the time before each line. */
const TIME_WIDTH = '[   0.00 s] '.length;
/** After so long without a line, the demo says that it goes on, in milliseconds. */
const SILENCE_MS = 10_000;

/** Prints what happens, with the seconds since the start, in lines that fit the terminal. */
export class Narrator {
  readonly #print: (text: string) => void;
  readonly #columns: number;
  /** Names of the derivations that are being built, by build. */
  readonly #building = new Map<string, string>();
  #startedAt = performance.now();
  #saidAt = performance.now();
  #last = '';

  constructor(print: (text: string) => void, columns = 80) {
    this.#print = print;
    this.#columns = Math.max(40, columns);
    setInterval(() => {
      if (performance.now() - this.#saidAt < SILENCE_MS) return;
      const names = [...this.#building.values()];
      this.#write(names.length > 0 ? `still building ${names.join(', ')}` : `still: ${this.#last}`);
    }, 1_000).unref();
  }

  /** Restarts the clock at zero. */
  restart(): void {
    this.#startedAt = performance.now();
  }

  say(text: string): void {
    this.#last = text;
    this.#write(text);
  }

  #write(text: string): void {
    this.#saidAt = performance.now();
    const seconds = ((this.#saidAt - this.#startedAt) / 1000).toFixed(2).padStart(7);
    const [first = '', ...more] = wrap(text, this.#columns - TIME_WIDTH);
    const rest = more.map((line) => `${' '.repeat(TIME_WIDTH)}${line}\n`);
    this.#print(`[${seconds} s] ${first}\n${rest.join('')}`);
  }

  plain(text = ''): void {
    for (const line of wrap(text, this.#columns)) this.#print(`${line}\n`);
  }

  /** Prints those events of the supervisor that are part of the story. */
  event(event: DroverEvent): void {
    switch (event.type) {
      case 'boot-finished':
        this.say(
          `${event.guest}: ${event.result === 'ok' ? `booted in ${(event.durationMs / 1000).toFixed(2)} s` : 'did not boot'}`,
        );
        return;
      case 'build-started':
        this.#building.set(event.build, nameOf(event.derivation));
        this.say(`${event.guest}: building ${nameOf(event.derivation)}`);
        return;
      case 'build-finished':
        this.#building.delete(event.build);
        this.say(
          `${event.guest ?? '-'}: ${event.result.toLowerCase()} ${nameOf(event.derivation)} in ${(event.durationMs / 1000).toFixed(2)} s`,
        );
        return;
      case 'build-replayed':
        this.say(`${event.guest}: lost; its build starts again in another guest`);
        return;
      case 'provisioned':
        if (event.sharedPaths > 0)
          this.say(
            `${event.guest}: ${count(event.sharedPaths, 'input path')} shared (${humanBytes(event.sharedBytes)}, no byte of it moved)`,
          );
        if (event.copiedPaths > 0)
          this.say(
            `${event.guest}: ${count(event.copiedPaths, 'input path')} copied (${humanBytes(event.copiedBytes)})`,
          );
        return;
      case 'guest-state':
        if (event.to === 'stopped') this.say(`${event.guest}: gone (${event.reason ?? 'idle'})`);
        if (event.to === 'failed') this.say(`${event.guest}: failed (${event.reason ?? ''})`);
        return;
      case 'operation-refused':
      case 'settings-refused':
      case 'guest-retired':
      case 'program-ended':
      case 'program-started':
      case 'rollout-finished':
      case 'share-retried':
      case 'lease-granted':
      case 'lease-refused':
      case 'lease-returned':
      case 'lease-waiting':
      case 'log-line':
      case 'session-closed':
      case 'session-opened':
    }
  }
}

/** `/nix/store/<hash>-zlib-1.3.drv` → `zlib-1.3` */
function nameOf(derivation: string): string {
  return derivation.replace(/^.*\/[^-]*-/, '').replace(/\.drv$/, '');
}
