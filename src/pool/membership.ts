import type { GuestEntry } from './guest-entry.js';

/** A list or set of guests, and the guests that belong to it. */
export interface Membership {
  readonly list: { add(entry: GuestEntry): unknown; delete(entry: GuestEntry): unknown };
  readonly has: (entry: GuestEntry) => boolean;
  /** Order of a sorted list. */
  readonly order?: (a: GuestEntry, b: GuestEntry) => number;
}

/**
 * Moves a guest's entry to where it belongs now, and changes it in place. A list in which it stays where it is is not
 * touched, which spares most of the work: a lease changes one or two of ten.
 */
export function moveEntry(
  memberships: readonly Membership[],
  entry: GuestEntry | undefined,
  after: GuestEntry | undefined,
): void {
  const entering: Membership['list'][] = [];
  for (const { list, has, order } of memberships) {
    const was = entry !== undefined && has(entry);
    const is = after !== undefined && has(after);
    if (was && is && (order === undefined || order(entry, after) === 0)) continue;
    if (was) list.delete(entry);
    if (is) entering.push(list);
  }
  if (entry !== undefined && after !== undefined) Object.assign(entry, after);
  const moved = entry ?? after;
  if (moved !== undefined) for (const list of entering) list.add(moved);
}
