import type { CancelTimer, Clock } from '../lib/clock.js';
import type { GuestRecord } from './guest-record.js';
import type { KeptBuild } from './lease.js';

/** Failed builds that are kept at the same time. */
const MAX_KEPT = 10;

interface Entry {
  readonly kept: KeptBuild;
  readonly guest: GuestRecord;
  readonly cancel: CancelTimer;
  /** People who are in it. */
  shells: number;
  expired: boolean;
}

/** The kept builds of all guests. Part of the pool, which alone calls it. */
export class KeptBuilds {
  readonly #clock: Clock;
  readonly #onDropped: (guest: GuestRecord, kept: KeptBuild) => void;
  /** The oldest first. */
  readonly #entries = new Map<string, Entry>();

  /** @param onDropped the build is not kept any more, and its guest's record says so */
  constructor(clock: Clock, onDropped: (guest: GuestRecord, kept: KeptBuild) => void) {
    this.#clock = clock;
    this.#onDropped = onDropped;
  }

  get ids(): readonly string[] {
    return [...this.#entries.keys()];
  }

  find(build: string): { readonly guest: GuestRecord; readonly kept: KeptBuild } | undefined {
    return this.#entries.get(build);
  }

  add(guest: GuestRecord, kept: KeptBuild): void {
    const cancel = this.#clock.after(kept.keepMs, () => {
      this.#expire(kept.build);
    });
    this.#entries.set(kept.build, { kept, guest, cancel, shells: 0, expired: false });
    guest.keptBuilds = [...guest.keptBuilds, kept.build];
    const idle = [...this.#entries.values()].filter(({ shells }) => shells === 0);
    if (this.#entries.size > MAX_KEPT && idle[0] !== undefined) this.#drop(idle[0]);
  }

  /** A person enters the build: it is kept until that person has left. @returns a function for that */
  enter(build: string): () => void {
    const entry = this.#entries.get(build);
    if (entry === undefined) return () => undefined;
    entry.shells += 1;
    return () => {
      entry.shells -= 1;
      if (entry.expired && entry.shells === 0) this.#drop(entry);
    };
  }

  /** Keeps no build in this guest any more. */
  release(guest: GuestRecord): void {
    for (const entry of [...this.#entries.values()]) if (entry.guest === guest) this.#drop(entry);
  }

  #expire(build: string): void {
    const entry = this.#entries.get(build);
    if (entry === undefined) return;
    entry.expired = true;
    if (entry.shells === 0) this.#drop(entry);
  }

  #drop({ kept, guest, cancel }: Entry): void {
    if (!this.#entries.delete(kept.build)) return;
    cancel();
    guest.keptBuilds = guest.keptBuilds.filter((build) => build !== kept.build);
    this.#onDropped(guest, kept);
  }
}
