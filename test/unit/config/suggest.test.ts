import { describe, expect, it, test } from '@jest/globals';

import { editDistance, nearest } from '../../../src/config/suggest.js';
import fc from '../../support/property.js';

describe('editDistance', () => {
  test.each([
    ['', '', 0],
    ['abc', '', 3],
    ['kitten', 'sitting', 3],
    ['porst', 'ports', 1],
  ])('%j → %j', (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
  });

  it('is symmetric, zero for equals only, and at most the longer length', () => {
    const word = fc.string({ maxLength: 12 });
    const holds = (a: string, b: string) => {
      const distance = editDistance(a, b);
      const bounded = distance <= Math.max(a.length, b.length);
      return bounded && distance === editDistance(b, a) && (distance === 0) === (a === b);
    };
    fc.assert(fc.property(word, word, holds));
  });
});

describe('nearest', () => {
  const keys = ['maxGuests', 'warmGuests', 'maxAge', 'maxBuilds'];
  test.each([
    ['maxGuest', 'maxGuests'],
    ['max-guests', 'maxGuests'],
    ['MAX_AGE', 'maxAge'],
    ['mxaAge', 'maxAge'],
    ['maxAgeMs', 'maxAge'],
    ['colour', undefined],
    ['x', undefined],
    ['', undefined],
  ])('%j → %j', (word, key) => {
    expect(nearest(word, keys)).toBe(key);
  });
});
