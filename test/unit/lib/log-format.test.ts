import { expect, test } from '@jest/globals';

import { formatLine } from '../../../src/lib/log-format.js';

const line = (fields: object): string =>
  `${JSON.stringify({ level: 40, time: '2026-01-02T03:04:05.678Z', ...fields })}\n`;

test('the journal gets the priority that belongs to the level', () => {
  const priorities = [10, 20, 30, 40, 50, 60].map((level) =>
    formatLine(line({ level }), 'journal').slice(0, 3),
  );
  expect(priorities).toEqual(['<7>', '<7>', '<6>', '<4>', '<3>', '<2>']);
  expect(formatLine(line({ msg: 'a' }), 'journal').slice(3)).toBe(line({ msg: 'a' }));
});

test('a terminal gets text, with the fields behind the message and an error below it', () => {
  const text = formatLine(
    line({
      guest: 'g1',
      leases: 2,
      what: 'two words',
      err: { message: 'it broke\nin two', hint: 'Mend it.' },
      msg: 'guest lost',
    }),
    'terminal',
  );
  expect(text.slice(9)).toBe(
    'warning: guest lost guest=g1 leases=2 what="two words"\n  it broke\n  in two\n  Mend it.\n',
  );
  expect(text.slice(0, 9)).toMatch(/^\d\d:\d\d:\d\d $/);
});

test('a line at info needs no level, and what is not JSON stays as it is', () => {
  expect(formatLine(line({ level: 30, msg: 'ready' }), 'terminal').slice(9)).toBe('ready\n');
  expect(formatLine('no JSON\n', 'terminal')).toBe('no JSON\n');
});
