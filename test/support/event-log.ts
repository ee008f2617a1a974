import type { DroverEvent } from '../../src/control/api.js';
import { DEADLINE_MS, within } from './wait.js';

type EventOf<Type extends DroverEvent['type']> = Extract<DroverEvent, { type: Type }>;

interface Waiter {
  readonly matches: (event: DroverEvent) => boolean;
  readonly resolve: (event: DroverEvent) => void;
}

/** A supervisor's events, all of them since it was ready. */
export class EventLog {
  readonly all: DroverEvent[] = [];
  #waiters: Waiter[] = [];

  /** Where the log stands: give it as `since` to wait for what happens from now on. */
  get position(): number {
    return this.all.length;
  }

  add(event: DroverEvent): void {
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

  /** Events of one type so far, or from `since` on. */
  of<Type extends DroverEvent['type']>(type: Type, since = 0): EventOf<Type>[] {
    return this.all.slice(since).filter((event): event is EventOf<Type> => event.type === type);
  }
}
