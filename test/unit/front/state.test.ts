import { describe, expect, test } from '@jest/globals';

import { transition, type SessionEvent, type SessionState } from '../../../src/front/state.js';

const STATES: readonly SessionState[] = ['greeting', 'answering', 'leased', 'relaying', 'closed'];
const EVENTS: readonly SessionEvent[] = ['greeted', 'leased', 'returned', 'relay', 'close'];

const LEGAL: readonly (readonly [SessionState, SessionEvent, SessionState])[] = [
  ['greeting', 'greeted', 'answering'],
  ['answering', 'leased', 'leased'],
  ['leased', 'returned', 'answering'],
  ['leased', 'relay', 'relaying'],
  ['greeting', 'close', 'closed'],
  ['answering', 'close', 'closed'],
  ['leased', 'close', 'closed'],
  ['relaying', 'close', 'closed'],
];

describe('the states of a session', () => {
  test.each(LEGAL)('%s, %s: becomes %s', (from, event, to) => {
    expect(transition(from, event)).toBe(to);
  });

  test('every other move throws', () => {
    for (const state of STATES) {
      for (const event of EVENTS) {
        if (LEGAL.some(([from, what]) => from === state && what === event)) continue;
        expect(() => transition(state, event)).toThrow('cannot take the event');
      }
    }
  });
});
