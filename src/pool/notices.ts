import type { RunningGuest } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { GuestRecord } from './guest-record.js';

/** A guest that has not set its clock in this time does not answer, in milliseconds. */
const SET_CLOCK_TIMEOUT_MS = 10_000;
/** If no wake event follows a sleep event within this time, the host is assumed to be awake, in milliseconds. */
const WAKE_TIMEOUT_MS = 60_000;

export interface NoticeOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** The guest's record has changed. */
  readonly onChange: () => void;
}

/**
 * Follows what a guest's driver reports of it. From the host's falling asleep until the guest's clock has been set, the
 * guest is `asleep`. A guest whose clock cannot be set is retired.
 */
export function followNotices(
  guest: GuestRecord,
  running: RunningGuest,
  { clock, log, onChange }: NoticeOptions,
): void {
  /** Counts sleeps and wakes: the answer to an earlier one no longer matters. */
  let turn = 0;
  const retire = (why: string): void => {
    log.warn({ why }, 'retiring guest');
    guest.retire ??= 'unfit';
    onChange();
  };
  const wake = async (): Promise<void> => {
    const mine = ++turn;
    guest.asleep = true;
    onChange();
    const problem = await setClock(guest, clock);
    if (mine !== turn) return;
    guest.asleep = false;
    guest.seenAt = clock.now();
    if (problem === undefined) onChange();
    else retire(`its clock cannot be set after the host's sleep: ${problem}`);
  };
  const sleep = (): void => {
    const mine = ++turn;
    guest.asleep = true;
    onChange();
    clock.after(WAKE_TIMEOUT_MS, () => {
      if (mine === turn) void wake();
    });
  };
  const warn = (warning: string): void => {
    log.warn({ warning }, 'guest reported a warning');
  };
  running.warnings?.forEach(warn);
  running.notices?.on((notice) => {
    switch (notice.kind) {
      case 'sleep':
        if (guest.driver.ownClock) sleep();
        return;
      case 'wake':
        if (guest.driver.ownClock) void wake();
        return;
      case 'unfit':
        retire(notice.why);
        return;
      case 'warning':
        warn(notice.text);
        return;
    }
  });
}

/** Never rejects. @returns why the clock could not be set; undefined when it was */
async function setClock({ leased }: GuestRecord, clock: Clock): Promise<string | undefined> {
  let cancel = (): void => undefined;
  const timeout = new Promise<never>((_, reject) => {
    cancel = clock.after(SET_CLOCK_TIMEOUT_MS, () => {
      reject(new DroverError('GUEST_GONE', `it has not answered for ${SET_CLOCK_TIMEOUT_MS / 1000} s`));
    });
  });
  try {
    await Promise.race([leased?.agent.setClock(clock.wallNow() / 1000), timeout]);
    return undefined;
  } catch (error) {
    return errorMessage(error);
  } finally {
    cancel();
  }
}
