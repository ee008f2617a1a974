import type { Channel } from '../daemon/channel.js';
import type { Clock } from '../lib/clock.js';
import { codeFacts } from '../lib/error-codes.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { Seat } from './seat.js';

/** Time for a guest that fails to turn out to be gone, in milliseconds: the end of a connection is seen first. */
const LOSS_GRACE_MS = 1_000;

/** A leased guest that could not be connected to. */
export class GuestUnfitError extends DroverError {
  override readonly name = 'GuestUnfitError';
  readonly guest: string;
  constructor(guest: string, cause: unknown) {
    super('GUEST_GONE', `The guest ${guest} cannot be reached`, { cause, context: { guest } });
    this.guest = guest;
  }
}

/**
 * How a session loses its guest. `lost`: the guest is gone, or fails. `full`: other builds have filled its scratch.
 * `conflict`: it holds something that contradicts the host, or the build's outputs. `unfit`: it was never reached.
 */
export interface Loss {
  readonly kind: 'lost' | 'full' | 'conflict' | 'unfit';
  readonly guest: string;
  readonly text: string;
}

/**
 * Finds out whether an error comes from the loss of the session's guest.
 * @returns undefined if it does not
 * @throws DroverError `SHUTTING_DOWN` if the guest was ended with all others, so that none can take its place
 */
export async function lossBehind(
  error: unknown,
  seat: Seat | undefined,
  client: Channel,
  clock: Clock,
): Promise<Loss | undefined> {
  const text = errorMessage(error);
  const code = errorCode(error);
  if (error instanceof GuestUnfitError) return { kind: 'unfit', guest: error.guest, text };
  if (seat === undefined || client.interruption !== undefined) return undefined;
  const { id: guest, lost } = seat.guest;
  if (code === 'GUEST_FULL') return { kind: 'full', guest, text };
  if (code === 'GUEST_CONFLICT') return { kind: 'conflict', guest, text };
  const { hungUp } = seat.daemon.channel;
  const commandFailed = codeFacts(code)?.losesGuest === true;
  if (!lost.aborted && (hungUp || commandFailed)) await abortedWithin(lost, clock, LOSS_GRACE_MS);
  if (errorCode(lost.reason) === 'SHUTTING_DOWN') throw lost.reason;
  if (lost.aborted) return { kind: 'lost', guest, text: errorMessage(lost.reason) };
  if (commandFailed) {
    return { kind: 'lost', guest, text: `the guest ${guest} failed to run a Drover command: ${text}` };
  }
  return hungUp ? { kind: 'lost', guest, text: `the nix-daemon of the guest ${guest} ended` } : undefined;
}

async function abortedWithin(signal: AbortSignal, clock: Clock, timeoutMs: number): Promise<void> {
  let settle = (): void => undefined;
  const settled = new Promise<void>((resolve) => {
    settle = resolve;
  });
  signal.addEventListener('abort', settle, { once: true });
  const cancel = clock.after(timeoutMs, settle);
  await settled;
  cancel();
  signal.removeEventListener('abort', settle);
}
