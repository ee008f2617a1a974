import { DroverError } from '../lib/errors.js';
import type { PoolEvent } from './events.js';
import type { Lease, LeaseRequest } from './lease.js';
import type { WaiterView } from './view.js';

interface Waiter extends WaiterView {
  readonly grant: (lease: Lease) => void;
  readonly refuse: (error: Error) => void;
}

export interface WaitQueueOptions {
  readonly now: () => number;
  readonly emit: (event: PoolEvent) => void;
  /** A waiter's signal has aborted. */
  readonly onLeft: () => void;
}

/** Sessions that wait for a lease, in the order of asking. A granted lease belongs to its session at once. */
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

  view(): readonly WaiterView[] {
    return [...this.#waiters.values()];
  }

  async add({ avoid = new Set(), signal }: LeaseRequest): Promise<Lease> {
    const { now, emit, onLeft } = this.#options;
    const id = this.#count++;
    const since = now();
    return await new Promise<Lease>((resolve, reject) => {
      const leave = (): void => {
        this.#waiters.delete(id);
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
      const grant = (lease: Lease): void => {
        leave();
        emit({ type: 'lease-granted', guest: lease.guest.id, waitedMs: now() - since });
        resolve(lease);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.set(id, { id, avoid, grant, refuse });
      emit({ type: 'lease-waiting' });
    });
  }

  grant(id: number, lease: Lease): void {
    const waiter = this.#waiters.get(id);
    if (waiter === undefined) throw new DroverError('UNKNOWN_WAITER', `There is no waiter ${id}`);
    waiter.grant(lease);
  }

  refuse(error: Error, which: (waiter: WaiterView) => boolean = () => true): void {
    for (const waiter of [...this.#waiters.values()]) if (which(waiter)) waiter.refuse(error);
  }
}
