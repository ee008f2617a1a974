import type { BootPhase } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import type { BootPhases } from './events.js';

/** Times the phases of one boot. */
export class BootTimer {
  readonly #clock: Clock;
  readonly #phases: Partial<Record<BootPhase, number>> = {};
  #phase: BootPhase = 'prepare';
  #since: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#since = clock.now();
  }

  /** Ends the phase before. */
  begin(phase: BootPhase): void {
    const now = this.#clock.now();
    this.#phases[this.#phase] = (this.#phases[this.#phase] ?? 0) + now - this.#since;
    this.#phase = phase;
    this.#since = now;
  }

  /** Ends the last phase. */
  end(): BootPhases {
    this.begin(this.#phase);
    return this.#phases;
  }
}
