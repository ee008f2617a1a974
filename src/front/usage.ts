import type { GuestAgent, UsageSample } from '../guest/agent.js';
import type { Clock } from '../lib/clock.js';

/** Shortest and longest time between two looks, in milliseconds. */
const MIN_INTERVAL_MS = 1_000;
const MAX_INTERVAL_MS = 15_000;
/** Part of its age after which a build is looked at again: that much of its end is missed at most. */
const INTERVAL_SHARE = 1 / 4;

/**
 * Looks at a build again and again. A short build is not looked at: a look costs some ten milliseconds of a processor.
 * @param derivation store path
 * @returns a function that ends it
 */
export function watchUsage(
  agent: Pick<GuestAgent, 'buildUsage'>,
  derivation: string,
  clock: Clock,
  onSample: (sample: UsageSample) => void,
): () => void {
  const name = derivation.slice(derivation.lastIndexOf('/') + 1);
  const startedAt = clock.now();
  let ended = false;
  let cancel = (): void => undefined;
  const look = async (): Promise<void> => {
    // The guest may be gone, or busy. It is asked again until it is known to be lost.
    const sample = await agent.buildUsage(name).catch(() => undefined);
    if (stopped()) return;
    if (sample !== undefined) onSample(sample);
    schedule();
  };
  const stopped = (): boolean => ended;
  const schedule = (): void => {
    const interval = (clock.now() - startedAt) * INTERVAL_SHARE;
    cancel = clock.after(Math.min(MAX_INTERVAL_MS, Math.max(MIN_INTERVAL_MS, interval)), () => void look());
  };
  schedule();
  return () => {
    ended = true;
    cancel();
  };
}
