import type { CancelTimer, Clock } from './clock.js';

/** Looks at the progress per timeout. */
const LOOKS = 8;

/**
 * Calls `action` once when `progress` has not changed for `timeoutMs`, or up to an eighth longer.
 * @returns stops watching
 */
export function whenStalled(
  clock: Pick<Clock, 'after' | 'now'>,
  progress: () => string,
  timeoutMs: number,
  action: () => void,
): CancelTimer {
  let last = progress();
  let changedAt = clock.now();
  let cancel: CancelTimer = () => undefined;
  const look = (): void => {
    const current = progress();
    if (current !== last) {
      last = current;
      changedAt = clock.now();
    }
    if (clock.now() - changedAt >= timeoutMs) action();
    else cancel = clock.after(timeoutMs / LOOKS, look);
  };
  cancel = clock.after(timeoutMs / LOOKS, look);
  return () => {
    cancel();
  };
}
