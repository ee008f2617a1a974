/** Time of one turn of the event loop that may be used, in milliseconds. */
const SLICE_MS = 10;
/** Pieces of work that begin in a turn of the event loop if others had to wait. */
const PIECES_PER_TURN = 8;

/**
 * Spreads the work of many sessions over several turns of the event loop. If a thousand requests arrive together, Node
 * passes all of them on before anything else is done.
 */
export class SharedTurns {
  #since: number | undefined;
  #waiting: (() => void)[] = [];

  /** Call it before each piece of work. @returns undefined, or what to wait for first */
  next(): Promise<void> | undefined {
    if (this.#since === undefined) {
      this.#begin();
      return undefined;
    }
    const usedMs = performance.now() - this.#since;
    if (this.#waiting.length === 0 && usedMs < SLICE_MS) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #begin(): void {
    this.#since = performance.now();
    setImmediate(() => {
      this.#since = undefined;
      if (this.#waiting.length === 0) return;
      this.#begin();
      for (const resolve of this.#waiting.splice(0, PIECES_PER_TURN)) resolve();
    });
  }
}
