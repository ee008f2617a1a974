import { describe, expect, it, test } from '@jest/globals';

import { formatDuration, formatSize, parseDuration, parseSize } from '../../../src/config/units.js';
import fc from '../../support/property.js';

describe('parseDuration', () => {
  test.each([
    ['5m', 300_000],
    ['60s', 60_000],
    ['1h30m', 5_400_000],
    ['1h 30m', 5_400_000],
    ['500ms', 500],
    ['1d2h3m4s5ms', 93_784_005],
    ['0s', 0],
  ])('reads %s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  test.each<[unknown, string]>([
    [300, 'expected a duration with its unit, such as 60s or 5m, got 300'],
    ['', 'expected a duration such as 500ms, 60s, 5m or 1h30m, got ""'],
    ['5', 'expected a duration such as 500ms, 60s, 5m or 1h30m, got "5"'],
    ['1.5h', 'expected a duration such as 500ms, 60s, 5m or 1h30m, got "1.5h"'],
    [null, 'expected a duration such as 500ms, 60s, 5m or 1h30m, got nothing (null)'],
    [['5m'], 'expected a duration such as 500ms, 60s, 5m or 1h30m, got a list'],
    ['-5m', 'a duration cannot be negative, got "-5m"'],
    ['5M', 'unknown unit "M" in "5M" (units: d, h, m, s, ms); did you mean m?'],
    ['5mss', 'unknown unit "mss" in "5mss" (units: d, h, m, s, ms); did you mean ms?'],
    ['30m1h', 'units of a duration go from large to small, each once, got "30m1h"'],
    ['1m1m', 'units of a duration go from large to small, each once, got "1m1m"'],
    ['99999999999999999d', 'too large a duration: "99999999999999999d"'],
  ])('refuses %j', (value, message) => {
    expect(() => parseDuration(value)).toThrow(expect.objectContaining({ code: 'UNIT_INVALID', message }));
  });

  it('rejects a long text quickly', () => {
    expect(() => parseDuration(`${'1'.repeat(1_000_000)}!`)).toThrow('expected a duration');
  });
});

describe('parseSize', () => {
  test.each<[unknown, number]>([
    ['20GiB', 20 * 1024 ** 3],
    ['512MiB', 512 * 1024 ** 2],
    ['1TB', 1e12],
    ['1.5 GiB', 1.5 * 1024 ** 3],
    ['1.1GiB', 1_181_116_006],
    ['3kB', 3000],
    ['3KB', 3000],
    ['7B', 7],
    ['7', 7],
    [7, 7],
  ])('reads %j', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  const usage = 'expected a size such as 20GiB, 512MiB, 1TB or a number of bytes, got';
  test.each<[unknown, string]>([
    ['', `${usage} ""`],
    ['big', `${usage} "big"`],
    [true, `${usage} true`],
    [{}, `${usage} a map`],
    [1.5, `${usage} 1.5`],
    [NaN, `${usage} NaN`],
    [-1, 'a size cannot be negative, got -1'],
    ['-1GiB', 'a size cannot be negative, got "-1GiB"'],
    ['20G', 'unknown unit "G" in "20G" (units: TiB, TB, GiB, GB, MiB, MB, KiB, kB, B); did you mean GB?'],
    [
      '20gib',
      'unknown unit "gib" in "20gib" (units: TiB, TB, GiB, GB, MiB, MB, KiB, kB, B); did you mean GiB?',
    ],
    ['9000000TiB', 'too large a size: "9000000TiB"'],
    [1e300, 'too large a size: 1e+300'],
  ])('refuses %j', (value, message) => {
    expect(() => parseSize(value)).toThrow(expect.objectContaining({ code: 'UNIT_INVALID', message }));
  });
});

describe('round trip', () => {
  it('reads back every duration that it writes', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (ms) => parseDuration(formatDuration(ms)) === ms));
  });

  it('reads back every size that it writes', () => {
    const unit = fc.constantFrom(1, 1000, 1024, 1000 ** 2, 1024 ** 2, 1000 ** 3, 1024 ** 3, 1024 ** 4);
    const bytes = fc.tuple(fc.nat({ max: 8000 }), unit).map(([count, size]) => count * size);
    const back = (size: number) => parseSize(formatSize(size)) === size;
    fc.assert(fc.property(fc.oneof(fc.maxSafeNat(), bytes), back));
  });

  it('throws nothing but UNIT_INVALID, whatever it is given', () => {
    const survives = (value: unknown) => {
      for (const parse of [parseDuration, parseSize]) {
        try {
          if (!Number.isSafeInteger(parse(value))) return false;
        } catch (error) {
          if ((error as { code?: string }).code !== 'UNIT_INVALID') return false;
        }
      }
      return true;
    };
    fc.assert(fc.property(fc.oneof(fc.anything(), fc.stringMatching(/^-?\d{1,20}[a-zA-Z]{0,3}$/)), survives));
  });

  test.each([
    [0, '0s'],
    [5_400_000, '1h30m'],
    [86_400_000, '1d'],
  ])('writes %d ms as %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  test.each([
    [0, '0B'],
    [20 * 1024 ** 3, '20GiB'],
    [1e12, '1TB'],
    [1025, '1025B'],
  ])('writes %d bytes as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
