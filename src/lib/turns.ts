/** Time for which work on many items may keep the event loop, in milliseconds. */
const SLICE_MS = 10;
/** Number of items between two looks at the clock. */
const ITEMS_PER_LOOK = 16;

/** Lets the event loop serve others in the middle of work on many items. */
export class Turns {
  #items = 0;
  #since = performance.now();

  /** Call it after each item. @returns undefined, or what to wait for before the next one */
  next(): Promise<void> | undefined {
    if (++this.#items % ITEMS_PER_LOOK !== 0 || performance.now() - this.#since < SLICE_MS) return undefined;
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#since = performance.now();
        resolve();
      });
    });
  }
}

/** `forEach`, a slice at a time. */
export async function inTurns<T>(
  items: Iterable<T>,
  action: (item: T, index: number) => void,
): Promise<void> {
  const turns = new Turns();
  let index = 0;
  for (const item of items) {
    action(item, index++);
    const pause = turns.next();
    if (pause !== undefined) await pause;
  }
}

/** `items` in slices of at most `size`: to wait for something, as an answer, between work on many items. */
export function* slicesOf<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}
