import { expect, test } from '@jest/globals';

import { printable, printableColours, printableLines } from '../../../src/lib/printable.js';
import fc from '../../support/property.js';

const ESC = '\u001b';

test.each([
  ['an escape sequence', `${ESC}]0;title\u0007`, '\\u001b]0;title\\u0007'],
  ['a C1 control sequence introducer', '\u009b2J', '\\u009b2J'],
  ['DEL', '\u007f', '\\u007f'],
  ['a line feed', 'a\nb', 'a\\u000ab'],
  ['a carriage return', 'a\rb', 'a\\u000db'],
  ['a right-to-left override', 'a\u202eb', 'a\\u202eb'],
  ['a zero-width space', 'a\u200bb', 'a\\u200bb'],
  ['a line separator', 'a\u2028b', 'a\\u2028b'],
  ['a lone surrogate', 'a\ud800b', 'a\\ud800b'],
  ['a tag character outside the basic plane', '\u{e0041}', '\\udb40\\udc41'],
])('escapes %s', (_, text, expected) => {
  expect(printable(text)).toBe(expected);
});

test.each(['gcc-13.2.0', 'Größe 1 µs', '日本語', '🙂', ''])('keeps %j as it is', (text) => {
  expect(printable(text)).toBe(text);
});

test('keeps line feeds and tabs in text of several lines, and nothing else', () => {
  expect(printableLines(`a\n\tb\r${ESC}`)).toBe('a\n\tb\\u000d\\u001b');
});

test.each([
  ['keeps foreground colours', `${ESC}[1;31mred${ESC}[0m ${ESC}[m`, `${ESC}[1;31mred${ESC}[0m ${ESC}[m`],
  ['escapes concealed text', `${ESC}[8mx`, '\\u001b[8mx'],
  ['escapes background colours', `${ESC}[41mx`, '\\u001b[41mx'],
  ['escapes movement of the cursor', `${ESC}[2A${ESC}[0m`, `\\u001b[2A${ESC}[0m`],
])('a terminal with colours: %s', (_, text, expected) => {
  expect(printableColours(text)).toBe(expected);
});

test('JSON stays the same JSON, and a second pass changes nothing', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const once = printable(text);
      expect(once).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      expect(printable(once)).toBe(once);
      expect(JSON.parse(printableLines(JSON.stringify({ text })))).toEqual({ text });
    }),
  );
});
