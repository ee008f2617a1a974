import type { WaiterView } from './view.js';

/** A waiter in a list. */
export interface WaiterNode {
  readonly waiter: WaiterView;
  /** Guests that it avoids and that could otherwise serve it. */
  readonly avoid: Set<string> | undefined;
  previous: WaiterNode | undefined;
  next: WaiterNode | undefined;
}

/** Waiters in the order of arrival; both ends and every removal cost the same, however many there are. */
export class WaiterList implements Iterable<WaiterNode> {
  #first: WaiterNode | undefined;
  #last: WaiterNode | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): WaiterNode | undefined {
    return this.#first;
  }

  *[Symbol.iterator](): IterableIterator<WaiterNode> {
    for (let node = this.#first; node !== undefined; node = node.next) yield node;
  }

  /** Puts it behind those that arrived before it, looking from the end. */
  add(node: WaiterNode): void {
    let previous = this.#last;
    while (previous !== undefined && previous.waiter.id > node.waiter.id) previous = previous.previous;
    const next = previous === undefined ? this.#first : previous.next;
    node.previous = previous;
    node.next = next;
    if (previous === undefined) this.#first = node;
    else previous.next = node;
    if (next === undefined) this.#last = node;
    else next.previous = node;
    this.#size += 1;
  }

  delete(node: WaiterNode): void {
    if (node.previous === undefined) this.#first = node.next;
    else node.previous.next = node.next;
    if (node.next === undefined) this.#last = node.previous;
    else node.next.previous = node.previous;
    node.previous = node.next = undefined;
    this.#size -= 1;
  }
}
