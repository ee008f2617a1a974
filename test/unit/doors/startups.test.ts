import { describe, expect, test } from '@jest/globals';

import { sourceOf, Startups } from '../../../src/doors/ssh/startups.js';
import fc from '../../support/property.js';

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
    const startups = new Startups<string>(10, 2);
    startups.admit('other', '10.0.0.2');
    startups.admit('a', '10.0.0.1');
    startups.admit('b', '10.0.0.1');
    expect(startups.admit('c', '10.0.0.1')).toBe('a');
    expect(startups.has('a')).toBe(false);
  });

  test('drop one of the address with most of them when there are too many', () => {
    const startups = new Startups<string>(3, 3);
    startups.admit('few', '10.0.0.1');
    startups.admit('many 1', '10.0.0.2');
    startups.admit('many 2', '10.0.0.2');
    expect(startups.admit('new', '10.0.0.3')).toBe('many 1');
  });

  test('drop the one that has made no progress for longest', () => {
    const startups = new Startups<string>(10, 3);
    for (const name of ['a', 'b', 'c']) startups.admit(name, '10.0.0.1');
    startups.advance('a', 1);
    startups.advance('b', 2);
    startups.advance('a', 1);
    expect(startups.admit('d', '10.0.0.1')).toBe('c');
    expect(startups.admit('e', '10.0.0.1')).toBe('a');
    expect(startups.admit('f', '10.0.0.1')).toBe('b');
  });

  test('let a client in that goes on while strangers stop half-way and connect again', () => {
    const startups = new Startups<string>(64, 32);
    let strangers = 0;
    const flood = (count: number): void => {
      for (let i = 0; i < count; i++) {
        const name = `stranger ${strangers++}`;
        startups.admit(name, '10.0.0.1');
        startups.advance(name, 1);
      }
    };
    flood(100);
    startups.admit('client', '10.0.0.1');
    for (const phase of [1, 2, 3] as const) {
      flood(30);
      startups.advance('client', phase);
    }
    expect(startups.has('client')).toBe(true);
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
