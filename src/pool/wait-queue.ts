import { DroverError } from '../lib/errors.js';
import type { PoolEvent } from './events.js';
import type { Lease, LeaseRequest } from './lease.js';
import type { WaiterView } from './view.js';

export interface WaitQueueOptions {
  readonly now: () => number;
  readonly emit: (event: PoolEvent) => void;
  /** Keeps the waiters, so that there is one list of them. */
  readonly find: (id: number) => WaiterView | undefined;
  readonly all: () => Iterable<WaiterView>;
  readonly onAdded: (waiter: WaiterView) => void;
  /** A waiter has been granted a lease, was refused one, or has left. */
  readonly onRemoved: (id: number) => void;
  /** A waiter's signal has aborted. */
  readonly onLeft: () => void;
}

const NONE: ReadonlySet<string> = new Set();

/** One session that waits. There can be tens of thousands, so each keeps as little as it can. */
class Waiter implements WaiterView {
  readonly id: number;
  readonly domain: string;
  readonly avoid: ReadonlySet<string>;
  readonly alone: boolean;
  readonly since: number;
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  /** A promise that is rejected serves as well as a second function that rejects. */
  readonly #settle: (lease: Lease | Promise<Lease>) => void;

  constructor(
    queue: WaitQueue,
    { id, since }: { readonly id: number; readonly since: number },
    { domain, avoid = NONE, alone = false, signal }: LeaseRequest,
    settle: (lease: Lease | Promise<Lease>) => void,
  ) {
    this.id = id;
    this.domain = domain;
    this.avoid = avoid;
    this.alone = alone;
    this.since = since;
    this.#signal = signal;
    this.#settle = settle;
    // A listener that is an object would take twice the memory.
    this.#onAbort = () => {
      queue.onAbort(this, signal.reason as Error);
    };
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  grant(lease: Lease): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#settle(lease);
  }

  refuse(error: Error): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#settle(Promise.reject(error));
  }
}

/** Sessions that wait for a lease. A granted lease belongs to its session at once. */
export class WaitQueue {
  readonly #options: WaitQueueOptions;
  #count = 0;

  constructor(options: WaitQueueOptions) {
    this.#options = options;
  }

  /** When the waiter began to wait, on the pool's clock. */
  sinceOf(id: number): number {
    return this.#get(id).since;
  }

  /** @returns the number of the waiter, and its lease */
  add(request: LeaseRequest): { id: number; lease: Promise<Lease> } {
    const { now, emit, onAdded } = this.#options;
    const id = this.#count++;
    const lease = new Promise<Lease>((settle) => {
      const waiter = new Waiter(this, { id, since: now() }, request, settle);
      onAdded(waiter);
    });
    emit({ type: 'lease-waiting' });
    return { id, lease };
  }

  get(id: number): WaiterView {
    return this.#get(id);
  }

  grant(id: number, lease: Lease): void {
    const waiter = this.#get(id);
    this.#remove(waiter);
    const { now, emit } = this.#options;
    emit({ type: 'lease-granted', guest: lease.guest.id, waitedMs: now() - waiter.since });
    waiter.grant(lease);
  }

  refuse(error: Error, which: (waiter: WaiterView) => boolean = () => true): void {
    for (const waiter of [...this.#options.all()])
      if (which(waiter)) this.#refuse(this.#get(waiter.id), error);
  }

  /** The waiter's session has gone. */
  onAbort(waiter: WaiterView, reason: Error): void {
    this.#refuse(this.#get(waiter.id), reason);
    this.#options.onLeft();
  }

  #refuse(waiter: Waiter, error: Error): void {
    this.#remove(waiter);
    const { now, emit } = this.#options;
    emit({ type: 'lease-refused', waitedMs: now() - waiter.since });
    waiter.refuse(error);
  }

  #remove({ id }: Waiter): void {
    this.#options.onRemoved(id);
  }

  #get(id: number): Waiter {
    const waiter = this.#options.find(id);
    if (!(waiter instanceof Waiter)) throw new DroverError('UNKNOWN_WAITER', `There is no waiter ${id}`);
    return waiter;
  }
}
