/** Counts every value that has no label of its own. */
const OTHER = 'other';

/** A value admitted under its own name: one plain word of at most 64 characters. */
const WORD = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;

/** The members of a union of strings. The record makes the compiler reject an incomplete list. */
export function namesOf<T extends string>(names: Readonly<Record<T, true>>): readonly T[] {
  return Object.keys(names) as T[];
}

/**
 * Values of a label that a peer can influence. Each value is a time series that is kept for good, here and in
 * Prometheus, so there are at most `known` + `spare` + 1 of them.
 */
export class BoundedLabel {
  /** Counted from the start, at 0. */
  readonly initial: readonly string[];
  readonly #admitted: Set<string>;
  readonly #limit: number;

  /** @param spare number of further values that are admitted, first come, first served */
  constructor(known: readonly string[], spare = 0) {
    this.#admitted = new Set(known);
    this.#limit = this.#admitted.size + spare;
    this.initial = [...new Set([...known, OTHER])];
  }

  /** Returns the label that counts `value`: itself, or `other`. */
  of(value: string): string {
    if (this.#admitted.has(value)) return value;
    if (this.#admitted.size >= this.#limit || !WORD.test(value)) return OTHER;
    this.#admitted.add(value);
    return value;
  }
}
