import { GuestAgent, type GuestHello } from '../guest/agent.js';
import { DroverError } from '../lib/errors.js';
import type { GuestDriver, RunningGuest } from './driver.js';

/**
 * The first words with a guest: it must be the one that was booted, and gets the right time if it has a clock.
 * @throws DroverError `BOOT_FAILED`, or why it did not answer; the guest has been killed then
 */
export async function greetGuest(
  guest: RunningGuest,
  { manifest, ownClock }: Pick<GuestDriver, 'manifest' | 'ownClock'>,
): Promise<GuestHello> {
  const agent = new GuestAgent(guest);
  let slept = ownClock;
  const off = guest.notices?.on(({ kind }) => (slept ||= ownClock && kind === 'wake'));
  try {
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
    throw error;
  } finally {
    off?.();
  }
}
