import type { DroverEvent } from '../../src/control/api.js';
import { DEADLINE_MS, waitUntil, within } from './wait.js';

type EventOf<Type extends DroverEvent['type']> = Extract<DroverEvent, { type: Type }>;

interface Waiter {
  readonly matches: (event: DroverEvent) => boolean;
  readonly resolve: (event: DroverEvent) => void;
}

/** A supervisor's events, all of them since its start. They arrive some time after they have happened. */
export class EventLog {
  readonly all: DroverEvent[] = [];
  #waiters: Waiter[] = [];
  /** Events of before, as JSON, that may arrive once more. */
  readonly #twice: string[] = [];

  /** Where the log stands: `Drover.caughtUp` gives one to wait from for what happens from now on. */
  get position(): number {
    return this.all.length;
  }

  /** Adds those that had happened when the supervisor was asked, after it had begun to send new ones. */
  begin(past: readonly DroverEvent[]): void {
    for (const event of past) this.add(event);
    this.#twice.push(...past.map((event) => JSON.stringify(event)));
  }

  add(event: DroverEvent): void {
    const again = this.#twice.indexOf(JSON.stringify(event));
    if (again >= 0) {
      this.#twice.splice(again, 1);
      return;
    }
    this.all.push(event);
    const met = this.#waiters.filter((waiter) => waiter.matches(event));
    this.#waiters = this.#waiters.filter((waiter) => !met.includes(waiter));
    for (const waiter of met) waiter.resolve(event);
  }

  /** The first event of a type that fits, from `since` on; waits for it where there is none yet. */
  async waitFor<Type extends DroverEvent['type']>(
    type: Type,
    fits: (event: EventOf<Type>) => boolean = () => true,
    { since = 0, deadlineMs = DEADLINE_MS }: { since?: number; deadlineMs?: number } = {},
  ): Promise<EventOf<Type>> {
    const matches = (event: DroverEvent): boolean => event.type === type && fits(event as EventOf<Type>);
    const past = this.all.slice(since).find(matches);
    if (past !== undefined) return past as EventOf<Type>;
    const event = new Promise<DroverEvent>((resolve) => this.#waiters.push({ matches, resolve }));
    return (await within(`the event ${type}`, event, deadlineMs).catch((error: unknown) => {
      throw new Error(`${String(error)}; the last events were ${JSON.stringify(this.all.slice(-10))}`);
    })) as EventOf<Type>;
  }

  /** Waits until all of these are in it, that is the last one. */
  async has(happened: readonly DroverEvent[]): Promise<void> {
    const last = JSON.stringify(happened.at(-1));
    const count = (events: readonly DroverEvent[]): number =>
      events.filter((event) => JSON.stringify(event) === last).length;
    await waitUntil('events to arrive', () => count(this.all) >= count(happened));
  }

  /** Events of one type that have arrived, or from `since` on: see `Drover.caughtUp`. */
  of<Type extends DroverEvent['type']>(type: Type, since = 0): EventOf<Type>[] {
    return this.all.slice(since).filter((event): event is EventOf<Type> => event.type === type);
  }
}
