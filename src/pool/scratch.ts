import type { GuestAgent, GuestStats } from '../guest/agent.js';
import type { GuestDriver } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import type { GuestSnapshot, PoolEvent } from './events.js';
import type { GuestRecord } from './guest-record.js';

/** A guest is asked at most this often how full its scratch is, in milliseconds. */
const STATS_INTERVAL_MS = 5_000;
/** A guest whose scratch is fuller than this is retired: builds start with room, or in another guest. */
const SCRATCH_RETIRE_RATIO = 0.8;

export interface StatsListener {
  readonly log: Log;
  /** The guest has answered. */
  readonly onAnswer: () => void;
  readonly emit: (event: PoolEvent) => void;
}

/**
 * Whether the guest's scratch is too full for another build. Never rejects; a guest that does not answer is not full.
 */
export async function isScratchFull(
  guest: GuestRecord,
  clock: Clock,
  { log, onAnswer, emit }: StatsListener,
): Promise<boolean> {
  if (!isOfInterest(guest) || guest.statsDue) return false;
  const waitMs = guest.statsAt + STATS_INTERVAL_MS - clock.now();
  if (waitMs > 0) {
    // It was asked a moment ago, but a build that has ended since may have filled it.
    guest.statsDue = true;
    await new Promise<void>((resolve) => clock.after(waitMs, resolve));
    guest.statsDue = false;
    if (!isOfInterest(guest)) return false;
  }
  guest.statsAt = clock.now();
  try {
    if (guest.leased === undefined) return false;
    const { stats, usage } = await usageOf(guest.leased.agent, guest.driver, clock);
    onAnswer();
    guest.scratch = usage.scratch;
    guest.memory = usage.memory ?? guest.memory;
    const retries = stats.shareRetries - guest.shareRetries;
    guest.shareRetries = stats.shareRetries;
    if (retries > 0) {
      log.warn({ guest: guest.id, retries }, "the share of the host's store lacked files that it has");
      emit({ type: 'share-retried', guest: guest.id, retries });
    }
    return stats.scratchUsedBytes > stats.scratchTotalBytes * SCRATCH_RETIRE_RATIO;
  } catch (error) {
    log.debug({ err: error }, 'guest reported no statistics');
    return false;
  }
}

/** Scratch and memory of a guest; undefined where nothing says. */
export interface GuestUsage {
  readonly scratch: NonNullable<GuestSnapshot['scratch']> | undefined;
  readonly memory: NonNullable<GuestSnapshot['memory']> | undefined;
}

/** Asks a guest what it uses, and sets its clock if it has one. @throws DroverError `GUEST_AGENT_FAILED` */
export async function usageOf(
  agent: GuestAgent,
  { ownClock }: Pick<GuestDriver, 'ownClock'>,
  clock: Clock,
): Promise<{ readonly stats: GuestStats; readonly usage: GuestUsage }> {
  const stats = await agent.stats(ownClock ? clock.wallNow() / 1000 : undefined);
  const { scratchUsedBytes: usedBytes, scratchTotalBytes: totalBytes } = stats;
  const memory = memoryOf(agent, ownClock, stats);
  return { stats, usage: { scratch: { usedBytes, totalBytes }, memory } };
}

/** Undefined where nothing says. A guest that shares the host's kernel has a limit of its own there, or none. */
function memoryOf(
  agent: GuestAgent,
  ownClock: boolean,
  { memoryUsedBytes, memoryTotalBytes }: GuestStats,
): NonNullable<GuestSnapshot['memory']> | undefined {
  if (ownClock) {
    if (memoryUsedBytes === undefined || memoryTotalBytes === undefined) return undefined;
    return { usedBytes: memoryUsedBytes, totalBytes: memoryTotalBytes };
  }
  const memory = agent.memory();
  return memory?.usedBytes === undefined
    ? undefined
    : { usedBytes: memory.usedBytes, totalBytes: memory.limitBytes };
}

function isOfInterest({ state, retire }: GuestRecord): boolean {
  return (state === 'ready' || state === 'leased') && retire === undefined;
}
