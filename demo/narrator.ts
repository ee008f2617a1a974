import { humanBytes } from '../src/lib/human.js';
import type { DroverEvent } from '../src/control/api.js';

/** Prints what happens, with the seconds since the start. */
export class Narrator {
  readonly #print: (text: string) => void;
  #startedAt = performance.now();

  constructor(print: (text: string) => void) {
    this.#print = print;
  }

  /** Restarts the clock at zero. */
  restart(): void {
    this.#startedAt = performance.now();
  }

  say(text: string): void {
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(2).padStart(7);
    this.#print(`[${seconds} s] ${text}\n`);
  }

  plain(text = ''): void {
    this.#print(`${text}\n`);
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
        this.say(`${event.guest}: building ${nameOf(event.derivation)}`);
        return;
      case 'build-finished':
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
            `${event.guest}: ${event.sharedPaths} input paths shared (${humanBytes(event.sharedBytes)}, no byte of it moved)`,
          );
        if (event.copiedPaths > 0)
          this.say(
            `${event.guest}: ${event.copiedPaths} input paths copied (${humanBytes(event.copiedBytes)})`,
          );
        return;
      case 'guest-state':
        if (event.to === 'stopped') this.say(`${event.guest}: gone (${event.reason ?? 'idle'})`);
        if (event.to === 'failed') this.say(`${event.guest}: failed (${event.reason ?? ''})`);
        return;
      case 'operation-refused':
      case 'settings-refused':
      case 'guest-retired':
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
