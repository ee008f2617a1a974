import { DroverError } from '../lib/errors.js';
import type { PoolEvent } from './events.js';
import type { Lease, LeaseRequest } from './lease.js';
import type { WaiterView } from './view.js';

interface Waiter extends WaiterView {
  readonly since: number;
  readonly grant: (lease: Lease) => void;
  readonly refuse: (error: Error) => void;
}

export interface WaitQueueOptions {
  readonly now: () => number;
  readonly emit: (event: PoolEvent) => void;
  readonly onAdded: (waiter: WaiterView) => void;
  /** A waiter has been granted a lease, was refused one, or has left. */
  readonly onRemoved: (id: number) => void;
  /** A waiter's signal has aborted. */
  readonly onLeft: () => void;
}

const NONE: ReadonlySet<string> = new Set();

/** Sessions that wait for a lease. A granted lease belongs to its session at once. */
export class WaitQueue {
  readonly #options: WaitQueueOptions;
  readonly #waiters = new Map<number, Waiter>();
  #count = 0;

  constructor(options: WaitQueueOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** When the waiter began to wait, on the pool's clock. */
  sinceOf(id: number): number | undefined {
    return this.#waiters.get(id)?.since;
  }

  /** @returns the number of the waiter, and its lease */
  add({ domain, avoid = NONE, alone = false, signal }: LeaseRequest): { id: number; lease: Promise<Lease> } {
    const { now, emit, onAdded, onRemoved, onLeft } = this.#options;
    const id = this.#count++;
    const since = now();
    const lease = new Promise<Lease>((resolve, reject) => {
      const leave = (): void => {
        this.#waiters.delete(id);
        onRemoved(id);
        signal.removeEventListener('abort', onAbort);
      };
      const refuse = (error: Error): void => {
        leave();
        emit({ type: 'lease-refused', waitedMs: now() - since });
        reject(error);
      };
      const onAbort = (): void => {
        refuse(signal.reason as Error);
        onLeft();
      };
      const grant = (granted: Lease): void => {
        leave();
        emit({ type: 'lease-granted', guest: granted.guest.id, waitedMs: now() - since });
        resolve(granted);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const waiter = { id, domain, avoid, alone, since, grant, refuse };
      this.#waiters.set(id, waiter);
      onAdded(waiter);
      emit({ type: 'lease-waiting' });
    });
    return { id, lease };
  }

  [Symbol.iterator](): Iterator<WaiterView> {
    return this.#waiters.values();
  }

  get(id: number): WaiterView {
    return this.#get(id);
  }

  grant(id: number, lease: Lease): void {
    this.#get(id).grant(lease);
  }

  refuse(error: Error, which: (waiter: WaiterView) => boolean = () => true): void {
    for (const waiter of [...this.#waiters.values()]) if (which(waiter)) waiter.refuse(error);
  }

  #get(id: number): Waiter {
    const waiter = this.#waiters.get(id);
    if (waiter === undefined) throw new DroverError('UNKNOWN_WAITER', `There is no waiter ${id}`);
    return waiter;
  }
}
