import type { PoolEvent } from './events.js';
import type { Lease, LeaseRequest } from './lease.js';
import type { WaiterView } from './plan.js';

interface Waiter extends WaiterView {
  readonly since: number;
  readonly grant: (lease: Lease) => void;
  readonly refuse: (error: unknown) => void;
}

export interface WaitQueueOptions {
  readonly now: () => number;
  readonly emit: (event: PoolEvent) => void;
  /** Somebody has stopped waiting. */
  readonly onLeft: () => void;
}

/**
 * Who waits for a lease, in the order of asking.
 *
 * INVARIANT: Every lease that is granted either reaches whoever asked before their signal aborts, or is returned here.
 */
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

  /**
   * Not `async`: the promise that the caller awaits must be this very one, so that nothing can come between the last
   * look at the signal and the caller's next line.
   */
  add({ avoid = new Set(), signal }: LeaseRequest): Promise<Lease> {
    const { now, emit, onLeft } = this.#options;
    const id = this.#count++;
    const since = now();
    const { promise, resolve, reject } = withResolvers<Lease>();
    let granted: Lease | undefined;
    const leave = (error: unknown): void => {
      this.#waiters.delete(id);
      emit({ type: 'lease-refused', waitedMs: now() - since });
      reject(error);
    };
    const onAbort = (): void => {
      if (granted === undefined) leave(signal.reason);
      else void granted[Symbol.asyncDispose]();
      reject(signal.reason);
      onLeft();
    };
    const stopListening = (): void => {
      signal.removeEventListener('abort', onAbort);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    this.#waiters.set(id, {
      id,
      avoid,
      since,
      grant: (lease) => {
        this.#waiters.delete(id);
        granted = lease;
        emit({ type: 'lease-granted', guest: lease.guest.id, waitedMs: now() - since });
        queueMicrotask(() => {
          // Runs right before the caller's next line: until then an abort takes the lease back.
          queueMicrotask(stopListening);
          resolve(lease);
        });
      },
      refuse: (error) => {
        stopListening();
        leave(error);
      },
    });
    emit({ type: 'lease-waiting' });
    return promise;
  }

  /** Harmless when the waiter has left. */
  grant(id: number, lease: Lease): void {
    this.#waiters.get(id)?.grant(lease);
  }

  refuse(error: unknown, which: (waiter: WaiterView) => boolean = () => true): void {
    for (const waiter of this.#waiters.values()) if (which(waiter)) waiter.refuse(error);
  }
}

/** `Promise.withResolvers`, which Node 20 does not have. */
function withResolvers<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (reason: unknown) => void;
} {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
