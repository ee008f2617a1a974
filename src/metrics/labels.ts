/** Stands for every value of a label that is not counted under its own name. */
const OTHER = 'other';

/** What a value must look like to be admitted as a label of its own: one plain word of at most 64 characters. */
const WORD = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;

/** The names of a union of strings. The record makes the compiler complain where one is missing. */
export function namesOf<T extends string>(names: Readonly<Record<T, true>>): readonly T[] {
  return Object.keys(names) as T[];
}

/**
 * The values that a label may take, when a peer has a say in them. Each value of a label is a time series that is kept
 * for good, here and in Prometheus, so there are at most `known` + `spare` + 1 of them.
 */
export class BoundedLabel {
  /** Counted from the start, at 0. */
  readonly initial: readonly string[];
  readonly #admitted: Set<string>;
  readonly #limit: number;

  /** @param spare how many values beyond the known ones are admitted, the first that are seen */
  constructor(known: readonly string[], spare = 0) {
    this.#admitted = new Set(known);
    this.#limit = this.#admitted.size + spare;
    this.initial = [...new Set([...known, OTHER])];
  }

  /** What `value` is counted as: itself, or `other`. */
  of(value: string): string {
    if (this.#admitted.has(value)) return value;
    if (this.#admitted.size >= this.#limit || !WORD.test(value)) return OTHER;
    this.#admitted.add(value);
    return value;
  }
}
