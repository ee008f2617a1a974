import type { Clock } from '../lib/clock.js';
import { Emitter } from '../lib/emitter.js';
import type { DroverEvent, StampedEvent } from './api.js';

/** Events that are remembered. */
const MAX_EVENTS = 1_000;

/** The last events, each with its time, and those to come. Lines of logs are not among them: there are too many. */
export class RecentEvents {
  readonly stream = new Emitter<StampedEvent>();
  readonly #clock: Clock;
  #events: StampedEvent[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The oldest first. */
  get all(): readonly StampedEvent[] {
    return this.#events.slice(-MAX_EVENTS);
  }

  add(event: DroverEvent): void {
    if (event.type === 'log-line') return;
    const stamped = { at: new Date(this.#clock.wallNow()).toISOString(), ...event };
    this.#events.push(stamped);
    if (this.#events.length >= 2 * MAX_EVENTS) this.#events = this.#events.slice(-MAX_EVENTS);
    this.stream.emit(stamped);
  }
}
