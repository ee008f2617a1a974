/**
 * Items in the order of `compare`, which must tell any two of them apart. What it compares must not change while the
 * item is in the list.
 *
 * An array with binary search: for the thousand guests that a pool may have, moving 8 KB takes less time than following
 * the pointers of a tree.
 */
export class SortedList<T> implements Iterable<T> {
  readonly #items: T[] = [];
  readonly #compare: (a: T, b: T) => number;

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#items.length;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  at(index: number): T | undefined {
    return this.#items[index];
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#items[Symbol.iterator]();
  }

  add(item: T): void {
    const index = this.countWhile((other) => this.#compare(other, item) < 0);
    this.#items.splice(index, 0, item);
  }

  delete(item: T): void {
    const index = this.countWhile((other) => this.#compare(other, item) < 0);
    if (this.#items[index] === item) this.#items.splice(index, 1);
  }

  /**
   * Number of items at the beginning for which `holds`; it must hold for none behind the first for which it does not.
   */
  countWhile(holds: (item: T) => boolean): number {
    let [low, high] = [0, this.#items.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (holds(this.#items[middle] as T)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
