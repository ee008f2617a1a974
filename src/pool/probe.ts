import { HANG_MS, type Handshakes } from '../daemon/hang-watch.js';
import type { GuestDriver, RunningGuest } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import { isExhaustion } from '../lib/exhaustion.js';
import { withDaemon, type Work } from './guest-daemon.js';

/** A timer that fires this much too late shows that the supervisor itself was stopped, in milliseconds. */
const PAUSE_MS = 2_000;

/** Asks a guest for a sign of life. Rejects when the guest cannot give one; need not settle when the guest hangs. */
export type Probe = Work;

/** A handshake with the guest's nix-daemon: what every build begins with. */
export const probeDaemon: Probe = (running, driver, signal) =>
  withDaemon(running, driver, signal, () => Promise.resolve());

/**
 * Asks until the guest answers this or another question, or its time is up. A supervisor that was stopped itself, as by
 * the host's sleep, asks again: the guest had no chance to answer.
 * @returns why the guest gives no sign of life; undefined when it does
 */
export async function findHang(
  probe: Probe,
  running: RunningGuest,
  driver: GuestDriver,
  handshakes: Handshakes,
  clock: Clock,
): Promise<string | undefined> {
  for (;;) {
    const result = await once(probe, running, driver, handshakes, clock);
    if (result !== 'paused') return result;
  }
}

async function once(
  probe: Probe,
  running: RunningGuest,
  driver: GuestDriver,
  handshakes: Handshakes,
  clock: Clock,
): Promise<string | undefined> {
  const over = new AbortController();
  const dueAt = clock.now() + HANG_MS;
  let cancel = (): void => undefined;
  const before = handshakes.completed;
  const timeout = new Promise<string | undefined>((resolve) => {
    cancel = clock.after(HANG_MS, () => {
      if (clock.now() - dueAt > PAUSE_MS) resolve('paused');
      else if (handshakes.completed > before) resolve(undefined);
      else resolve(`its nix-daemon has not answered for ${HANG_MS / 1000} s`);
    });
  });
  const answer = probe(running, driver, over.signal).then(
    () => {
      handshakes.noteCompleted();
      return undefined;
    },
    // A shortage on the host says nothing about the guest.
    (error: unknown) =>
      isExhaustion(error) ? undefined : `its nix-daemon does not answer: ${errorMessage(error)}`,
  );
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    cancel();
    over.abort(new DroverError('GUEST_GONE', 'the probe is over'));
  }
}
