import { describe, expect, test } from '@jest/globals';

import {
  GUEST_STATES,
  isAlive,
  transition,
  type GuestEvent,
  type GuestState,
} from '../../../src/pool/state.js';

const EVENTS: readonly GuestEvent[] = ['booted', 'leased', 'returned', 'drain', 'ended', 'failed'];

/** Every legal move, written out once more. */
const LEGAL: readonly (readonly [GuestState, GuestEvent, GuestState])[] = [
  ['booting', 'booted', 'ready'],
  ['booting', 'drain', 'draining'],
  ['booting', 'failed', 'failed'],
  ['ready', 'leased', 'leased'],
  ['ready', 'drain', 'draining'],
  ['ready', 'failed', 'failed'],
  ['leased', 'leased', 'leased'],
  ['leased', 'returned', 'ready'],
  ['leased', 'drain', 'draining'],
  ['leased', 'failed', 'failed'],
  ['draining', 'returned', 'draining'],
  ['draining', 'drain', 'draining'],
  ['draining', 'ended', 'stopped'],
  ['draining', 'failed', 'failed'],
];

const all = GUEST_STATES.flatMap((state) => EVENTS.map((event) => [state, event] as const));
const illegal = all.filter(([state, event]) => !LEGAL.some(([from, by]) => from === state && by === event));

describe('the states of a guest', () => {
  test.each(LEGAL)('%s, %s: %s', (state, event, next) => {
    expect(transition(state, event)).toBe(next);
  });

  test.each(illegal)('%s, %s: illegal', (state, event) => {
    expect(() => transition(state, event)).toThrow(
      expect.objectContaining({ code: 'ILLEGAL_TRANSITION', context: { state, event } }),
    );
  });

  test('a guest holds resources until it has stopped or failed', () => {
    expect(GUEST_STATES.filter(isAlive)).toEqual(['booting', 'ready', 'leased', 'draining']);
  });
});
