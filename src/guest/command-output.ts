/** Bytes that are kept of each output of a command. */
const MAX_BYTES = 1024 * 1024;

/** The beginning of what a command prints. In however many pieces the rest comes, it takes no memory. */
export class CommandOutput {
  #bytes = Buffer.alloc(0);
  #length = 0;

  add(piece: Buffer): void {
    const kept = piece.subarray(0, MAX_BYTES - this.#length);
    const length = this.#length + kept.length;
    if (length > this.#bytes.length) {
      const larger = Buffer.alloc(Math.min(MAX_BYTES, 2 * length));
      this.#bytes.copy(larger);
      this.#bytes = larger;
    }
    kept.copy(this.#bytes, this.#length);
    this.#length = length;
  }

  toString(): string {
    return this.#bytes.toString('utf8', 0, this.#length);
  }
}
