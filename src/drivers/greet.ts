import { GuestAgent, type GuestHello } from '../guest/agent.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import type { GuestDriver, RunningGuest } from '../guest/driver.js';

/**
 * First contact with a guest: it must be the one that was booted, and its clock is set if it has one.
 * @param signal the boot was cancelled
 * @throws DroverError `BOOT_FAILED`, with the signal's reason if that was the cause, or why the guest did not
 *   answer; the guest has been killed then
 */
export async function greetGuest(
  guest: RunningGuest,
  { manifest, ownClock }: Pick<GuestDriver, 'manifest' | 'ownClock'>,
  signal: AbortSignal,
): Promise<GuestHello> {
  const agent = new GuestAgent(guest);
  let slept = ownClock;
  const off = guest.notices?.on(({ kind }) => (slept ||= ownClock && kind === 'wake'));
  const giveUp = (): void => void guest.kill().catch(() => undefined); // and again below
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    signal.throwIfAborted();
    const setClock = async (): Promise<void> => {
      slept = false;
      await agent.setClock(Date.now() / 1000);
    };
    const [hello] = await Promise.all([agent.hello(), slept ? setClock() : undefined]);
    while (slept) await setClock();
    if (hello.generation === manifest.generation) return hello;
    throw new DroverError('BOOT_FAILED', 'the guest is of another image than it was booted from');
  } catch (error) {
    await guest.kill();
    if (!signal.aborted) throw error;
    const why = errorMessage(signal.reason);
    throw new DroverError('BOOT_FAILED', `${why}: drover-guest hello or set-clock has not ended in it`);
  } finally {
    signal.removeEventListener('abort', giveUp);
    off?.();
  }
}
