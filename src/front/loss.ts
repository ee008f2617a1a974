import type { Clock } from '../lib/clock.js';
import { codeFacts } from '../lib/error-codes.js';
import { errorCode, errorMessage } from '../lib/errors.js';
import type { Backend } from './backend.js';

/** How often a build is started again because its guest was lost. */
export const MAX_REPLAYS = 2;
/** How long a guest that misbehaves is given to turn out to be gone, in milliseconds. */
const LOSS_GRACE_MS = 1_000;

/**
 * How the guest of a session was lost, or what makes it of no use, in words, if that is what `error` comes from.
 * @throws DroverError `SHUTTING_DOWN` if it was ended with all others, so that none can take its place
 */
export async function howLost(error: unknown, backend: Backend, clock: Clock): Promise<string | undefined> {
  if (errorCode(error) === 'GUEST_FULL') return errorMessage(error);
  const lost = backend.lease?.guest.lost;
  if (lost === undefined) return undefined;
  const hungUp = backend.guest?.channel.gone.aborted === true;
  const disobedient = codeFacts(errorCode(error))?.losesGuest === true;
  if (!lost.aborted && (hungUp || disobedient)) {
    // The end of a connection is seen before the end of the guest.
    await abortedWithin(lost, clock, LOSS_GRACE_MS);
  }
  if (errorCode(lost.reason) === 'SHUTTING_DOWN') throw lost.reason;
  if (lost.aborted) return errorMessage(lost.reason);
  const id = backend.lease?.guest.id ?? '';
  if (disobedient) return `the guest ${id} does not do as it is told: ${errorMessage(error)}`;
  return hungUp ? `the nix-daemon of the guest ${id} ended` : undefined;
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
