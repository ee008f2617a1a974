/** How far a client has come: connected, said its protocol, agreed on keys, offered a listed key. */
export type Phase = 0 | 1 | 2 | 3;

interface Entry {
  readonly source: string;
  phase: Phase;
}

/**
 * The connections that have not authenticated yet.
 *
 * If there are too many, one is dropped: of the address that has most of them, the one that has made no progress for
 * longest. It is not the newest one, or the client that reconnects fastest would keep all others out; nor one that came
 * less far than others, or strangers that stop half-way would. A client with an accepted key authenticates in some
 * 30 ms, in four steps.
 */
export class Startups<T> {
  /** Those that have made no progress for longest come first. */
  readonly #entries = new Map<T, Entry>();
  /** Number of entries of each source. */
  readonly #counts = new Map<string, number>();
  readonly #max: number;
  readonly #maxPerSource: number;

  constructor(max: number, maxPerSource: number) {
    this.#max = max;
    this.#maxPerSource = maxPerSource;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Adds a connection. Returns the one that must be dropped for it, if any, which is gone from here. */
  admit(connection: T, address: string): T | undefined {
    const source = sourceOf(address);
    let from: string | undefined;
    if ((this.#counts.get(source) ?? 0) >= this.#maxPerSource) from = source;
    else if (this.#entries.size >= this.#max)
      from = [...this.#counts].reduce((most, one) => (one[1] > most[1] ? one : most))[0];
    const dropped = from === undefined ? undefined : this.#stalest(from);
    if (dropped !== undefined) this.delete(dropped);
    this.#entries.set(connection, { source, phase: 0 });
    this.#counts.set(source, (this.#counts.get(source) ?? 0) + 1);
    return dropped;
  }

  advance(connection: T, phase: Phase): void {
    const entry = this.#entries.get(connection);
    if (entry === undefined || phase <= entry.phase) return;
    entry.phase = phase;
    this.#entries.delete(connection);
    this.#entries.set(connection, entry);
  }

  /** True if the connection has not authenticated. */
  has(connection: T): boolean {
    return this.#entries.has(connection);
  }

  delete(connection: T): void {
    const entry = this.#entries.get(connection);
    if (entry === undefined) return;
    this.#entries.delete(connection);
    const left = (this.#counts.get(entry.source) ?? 0) - 1;
    if (left > 0) this.#counts.set(entry.source, left);
    else this.#counts.delete(entry.source);
  }

  #stalest(source: string): T | undefined {
    for (const [connection, entry] of this.#entries) if (entry.source === source) return connection;
    return undefined;
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
