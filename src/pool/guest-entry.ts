import type { GuestView, PoolPolicy } from './view.js';

/** A guest that has not answered for this long is asked for a sign of life before its next lease, in milliseconds. */
const SILENCE_MS = 10_000;
/** A guest in use is asked for a sign of life this often, in milliseconds. */
const WATCH_INTERVAL_MS = 30_000;
/** A guest in use stays with its domain for at least this many times what its boot took. */
const TURN_BOOTS = 5;

/** A copy of a guest's view, taken when it was indexed, with what the indexes need besides. */
export interface GuestEntry extends GuestView {
  /** Tells equals apart: increases in the order of appearance. */
  readonly order: number;
  /** Leases it can be granted, once it is awake and has answered. */
  readonly free: number;
}

/** Limits of one guest. */
export interface GuestLimits {
  readonly slots: number;
  readonly builds: number;
}

export function guestLimits({ isolation, jobsPerGuest, maxBuilds }: PoolPolicy): GuestLimits {
  return isolation === 'build' ? { slots: 1, builds: 1 } : { slots: jobsPerGuest, builds: maxBuilds };
}

/** Number of leases that a fresh guest can carry at the same time. */
export function roomOfFresh(policy: PoolPolicy): number {
  const { slots, builds } = guestLimits(policy);
  return Math.max(1, Math.min(slots, builds));
}

export function isUp({ state }: GuestView): boolean {
  return state === 'ready' || state === 'leased';
}

/** Whether the guest gets no lease for now, but will: the host's sleep or a question stands in the way. */
export function isUnready({ asleep, probing }: GuestView): boolean {
  return asleep || probing;
}

/** Whether waiters count on the guest's answer to a probe. */
export function isAsked({ probing, late }: GuestView): boolean {
  return probing && !late;
}

/** Whether no session and no person uses it. */
export function isUnused({ leases, shells }: GuestView): boolean {
  return leases === 0 && shells === 0;
}

export function isSilent(guest: GuestView, now: number): boolean {
  return !isUnready(guest) && now - guest.seenAt >= SILENCE_MS;
}

export function isReady(guest: GuestView, now: number): boolean {
  return !isUnready(guest) && now - guest.seenAt < SILENCE_MS;
}

// Each time is one sum, used both for what is due and for when to look again: sums that round differently never meet.

export function watchAt({ seenAt }: GuestView): number {
  return seenAt + WATCH_INTERVAL_MS;
}

export function agedAt({ readyAt }: GuestView, { maxAgeMs }: PoolPolicy): number {
  return readyAt + maxAgeMs;
}

export function idledAt({ idleSince }: GuestView, { idleTimeoutMs }: PoolPolicy): number {
  return idleSince + idleTimeoutMs;
}

/**
 * When a guest may be taken from its domain. An idle guest is kept for as long as its boot took: its domain may ask
 * again, and giving it up sooner costs more than it gains. A guest in use is kept for longer, so that changing hands
 * costs little of its time.
 */
export function takeableAt({ domain, leases, bornAt, readyAt, idleSince, claimedAt }: GuestView): number {
  if (domain === undefined) return -Infinity;
  const bootMs = readyAt - bornAt;
  return leases === 0 ? idleSince + bootMs : claimedAt + TURN_BOOTS * bootMs;
}

type Compare = (a: GuestEntry, b: GuestEntry) => number;

/** The fullest guest first, the oldest of equals. */
export const byPacking: Compare = (a, b) => b.leases - a.leases || byBirth(a, b);
export const byBirth: Compare = (a, b) => a.bornAt - b.bornAt || a.order - b.order;
export const byAge: Compare = (a, b) => a.readyAt - b.readyAt || a.order - b.order;
export const byIdleTime: Compare = (a, b) => a.idleSince - b.idleSince || a.order - b.order;
export const byClaim: Compare = (a, b) => a.claimedAt - b.claimedAt || a.order - b.order;
export const bySilence: Compare = (a, b) => a.seenAt - b.seenAt || a.order - b.order;
export const byDraining: Compare = (a, b) => a.drainingSince - b.drainingSince || a.order - b.order;

/** @param order of the guest in the index */
export function entryOf(view: GuestView, order: number, policy: PoolPolicy): GuestEntry {
  const { slots, builds } = guestLimits(policy);
  const open = isUp(view) && view.retire === undefined;
  return {
    order,
    free: open ? Math.max(0, Math.min(slots - view.leases, builds - view.builds)) : 0,
    id: view.id,
    state: view.state,
    leases: view.leases,
    shells: view.shells,
    kept: view.kept,
    builds: view.builds,
    domain: policy.isolation === 'shared' ? undefined : view.domain,
    bornAt: view.bornAt,
    readyAt: view.readyAt,
    claimedAt: view.claimedAt,
    idleSince: view.idleSince,
    seenAt: view.seenAt,
    drainingSince: view.drainingSince,
    retire: view.retire,
    stopping: view.stopping,
    asleep: view.asleep,
    probing: view.probing,
    late: view.late,
  };
}
