import { createHash } from 'node:crypto';

/** Guests that can be told apart at the same time: two bytes of a MAC address. */
const MAX_SLOTS = 65_536;

/**
 * Numbers for guests that live at the same time, used again and again: what hangs on them, such as the address that
 * macOS gives to a MAC address and remembers for a day, does not become more with every guest.
 */
export class Slots {
  readonly #taken = new Set<number>();

  /** The lowest number that is free, and its release: harmless when repeated, though it is another guest's by then. */
  take(): { readonly slot: number; readonly release: () => void } {
    let slot = 0;
    while (this.#taken.has(slot)) slot += 1;
    this.#taken.add(slot);
    let isTaken = true;
    const release = (): void => {
      if (isTaken) this.#taken.delete(slot);
      isTaken = false;
    };
    return { slot, release };
  }
}

/**
 * The MAC address of a slot: always the same, and another one for each slot of each supervisor on this host.
 * @param stateDir which no two supervisors share
 */
export function macAddress(stateDir: string, slot: number): string {
  const supervisor = createHash('sha256').update(stateDir).digest().subarray(0, 3);
  const number = slot % MAX_SLOTS;
  // The first byte means: unicast, locally administered.
  return [0x02, ...supervisor, number >> 8, number & 0xff]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join(':');
}
