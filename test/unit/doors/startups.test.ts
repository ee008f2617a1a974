import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';

import { sourceOf, Startups } from '../../../src/doors/ssh/startups.js';

describe('unauthenticated connections', () => {
  test('drop none while there is room', () => {
    const startups = new Startups<string>(4, 2);
    expect(startups.admit('a', '10.0.0.1')).toBeUndefined();
    expect(startups.admit('b', '10.0.0.1')).toBeUndefined();
    expect(startups.admit('c', '10.0.0.2')).toBeUndefined();
    startups.delete('a');
    expect(startups.admit('d', '10.0.0.1')).toBeUndefined();
  });

  test('drop one of the same address when that has too many', () => {
    const startups = new Startups<string>(10, 2, () => 0);
    startups.admit('other', '10.0.0.2');
    startups.admit('a', '10.0.0.1');
    startups.admit('b', '10.0.0.1');
    expect(startups.admit('c', '10.0.0.1')).toBe('a');
    expect(startups.has('a')).toBe(false);
  });

  test('drop one of the address with most of them when there are too many', () => {
    const startups = new Startups<string>(3, 3, () => 0);
    startups.admit('few', '10.0.0.1');
    startups.admit('many 1', '10.0.0.2');
    startups.admit('many 2', '10.0.0.2');
    expect(startups.admit('new', '10.0.0.3')).toBe('many 1');
  });

  test('drop those first that have come least far', () => {
    const startups = new Startups<string>(10, 3, () => 0);
    for (const name of ['a', 'b', 'c']) startups.admit(name, '10.0.0.1');
    startups.advance('a', 3);
    startups.advance('b', 1);
    startups.advance('a', 0);
    expect(startups.admit('d', '10.0.0.1')).toBe('c');
    expect(startups.admit('e', '10.0.0.1')).toBe('d');
    startups.advance('e', 2);
    expect(startups.admit('f', '10.0.0.1')).toBe('b');
  });

  test('never exceed their limits, and never drop the newest', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ source: fc.nat(4), phase: fc.constantFrom(0, 1, 2, 3) }), { maxLength: 60 }),
        (arrivals) => {
          const startups = new Startups<number>(8, 4);
          arrivals.forEach(({ source, phase }, index) => {
            expect(startups.admit(index, `10.0.0.${source}`)).not.toBe(index);
            expect(startups.has(index)).toBe(true);
            startups.advance(index, phase);
            expect(startups.size).toBeLessThanOrEqual(8);
          });
        },
      ),
    );
  });

  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8::6', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['', ''],
  ])('count %s as %s', (address, source) => {
    expect(sourceOf(address)).toBe(source);
  });
});
