/** How far a client has come: connected, said its protocol, agreed on keys, offered a listed key. */
export type Phase = 0 | 1 | 2 | 3;

interface Entry {
  readonly source: string;
  phase: Phase;
}

/**
 * The connections that have not authenticated yet.
 *
 * If there are too many, one is dropped at random, as with OpenSSH's MaxStartups. It is not the newest one,
 * or the fastest reconnecting client would keep all others out: it is one of those that have progressed
 * least, from the address that has most of them. A client with an accepted key authenticates in some 30 ms.
 */
export class Startups<T> {
  readonly #entries = new Map<T, Entry>();
  readonly #max: number;
  readonly #maxPerSource: number;
  readonly #random: () => number;

  constructor(max: number, maxPerSource: number, random: () => number = Math.random) {
    this.#max = max;
    this.#maxPerSource = maxPerSource;
    this.#random = random;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Adds a connection. Returns the one that must be dropped for it, if any, which is gone from here. */
  admit(connection: T, address: string): T | undefined {
    const source = sourceOf(address);
    const counts = new Map<string, number>();
    for (const entry of this.#entries.values()) counts.set(entry.source, (counts.get(entry.source) ?? 0) + 1);
    let from: string | undefined;
    if ((counts.get(source) ?? 0) >= this.#maxPerSource) from = source;
    else if (this.#entries.size >= this.#max)
      from = [...counts].reduce((most, one) => (one[1] > most[1] ? one : most))[0];
    const dropped = from === undefined ? undefined : this.#least(from);
    if (dropped !== undefined) this.#entries.delete(dropped);
    this.#entries.set(connection, { source, phase: 0 });
    return dropped;
  }

  advance(connection: T, phase: Phase): void {
    const entry = this.#entries.get(connection);
    if (entry !== undefined && phase > entry.phase) entry.phase = phase;
  }

  /** True if the connection has not authenticated. */
  has(connection: T): boolean {
    return this.#entries.has(connection);
  }

  delete(connection: T): void {
    this.#entries.delete(connection);
  }

  #least(source: string): T | undefined {
    const all = [...this.#entries].filter(([, entry]) => entry.source === source);
    const phase = Math.min(...all.map(([, entry]) => entry.phase));
    const least = all.filter(([, entry]) => entry.phase === phase);
    return least[Math.floor(this.#random() * least.length)]?.[0];
  }
}

/** One person's addresses: an IPv4 address, or an IPv6 network of 64 bits. */
export function sourceOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::');
  const groups = (part: string): string[] => part.split(':').filter((group) => group !== '');
  const [before, after] = [groups(head), groups(tail ?? '')];
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length);
  const all = [...before, ...Array.from({ length: zeros }, () => '0'), ...after];
  return `${all.slice(0, 4).join(':')}::/64`;
}
