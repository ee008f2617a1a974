import { describe, expect, test } from '@jest/globals';
import { MAX_ITEMS, MAX_STRING_BYTES } from '../../../src/protocol/limits.js';
import { decodeNixString, encodeNixString } from '../../../src/protocol/nix-string.js';
import {
  bool,
  bounded,
  bytes,
  decodeAll,
  list,
  map,
  num,
  string,
  strings,
  u32,
  u64,
} from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { converse, failureOf, refusal } from './support.js';
import fc from '../../support/property.js';

const written = (write: (writer: WireWriter) => WireWriter): Buffer => write(new WireWriter()).finish();

describe('numbers', () => {
  test('are 8 bytes, the least significant first', () => {
    expect(written((w) => w.u64(0x0102)).toString('hex')).toBe('0201000000000000');
  });

  test('come back, whatever they are', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (value) => {
        expect(
          decodeAll(
            u64(),
            written((w) => w.u64(value)),
          ),
        ).toBe(value);
      }),
    );
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        expect(
          decodeAll(
            num(),
            written((w) => w.u64(value)),
          ),
        ).toBe(value);
      }),
    );
  });

  test('that are too large are refused', () => {
    expect(
      refusal(
        num(),
        written((w) => w.u64(1n << 53n)),
      ),
    ).toBe('PROTOCOL_MALFORMED');
    expect(
      refusal(
        u32(),
        written((w) => w.u64(1n << 32n)),
      ),
    ).toBe('PROTOCOL_MALFORMED');
    expect(
      decodeAll(
        u32(),
        written((w) => w.u64(0xffff_ffff)),
      ),
    ).toBe(0xffff_ffff);
  });

  test('that are no numbers are not sent', () => {
    for (const value of [-1, 0.5, NaN, Infinity, 2 ** 53, -1n, 1n << 64n]) {
      expect(failureOf(() => new WireWriter().u64(value))).toBe('PROTOCOL_MALFORMED');
    }
  });

  test('are true unless 0, as in Nix', () => {
    expect(
      [0, 1, 2].map((value) =>
        decodeAll(
          bool(),
          written((w) => w.u64(value)),
        ),
      ),
    ).toEqual([false, true, true]);
  });
});

describe('strings', () => {
  test('are padded to 8 bytes', () => {
    expect(written((w) => w.string('hi')).toString('hex')).toBe('02000000000000006869000000000000');
    expect(written((w) => w.string(''))).toHaveLength(8);
    expect(written((w) => w.string('12345678'))).toHaveLength(16);
  });

  test('must be padded with zeroes', () => {
    for (let at = 10; at < 16; at++) {
      const input = written((w) => w.string('hi'));
      input[at] = 1;
      expect(refusal(string(), input)).toBe('PROTOCOL_MALFORMED');
    }
  });

  test('of any bytes survive, and no two are told as one', () => {
    const anyBytes = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.string({ unit: 'binary', maxLength: 20 }).map((text) => new Uint8Array(Buffer.from(text, 'utf8'))),
      fc
        .array(fc.constantFrom(0x61, 0xc3, 0xa9, 0xe5, 0xed, 0xa4, 0xb2, 0xf0, 0xf4, 0x90, 0x80), {
          maxLength: 12,
        })
        .map((parts) => Uint8Array.from(parts)),
    );
    fc.assert(
      fc.property(anyBytes, (input) => {
        expect(encodeNixString(decodeNixString(input)).equals(input)).toBe(true);
        expect(
          Buffer.from(
            decodeAll(
              bytes(),
              written((w) => w.bytes(input)),
            ),
          ).equals(input),
        ).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('of UTF-8 are just that text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(decodeNixString(Buffer.from(text, 'utf8'))).toBe(text);
      }),
    );
    expect(decodeNixString(Buffer.from('ä\xff', 'latin1'))).toBe('\udce4\udcff');
    expect(decodeNixString(Buffer.concat([Buffer.from('é'), Buffer.of(0xff)]))).toBe('é\udcff');
  });

  test('with a lone surrogate that is not a byte are not sent', () => {
    for (const text of ['\ud800', 'a\udc00b', '\udc7f', '\ud83d']) {
      expect(failureOf(() => encodeNixString(text))).toBe('PROTOCOL_MALFORMED');
    }
  });
});

describe('limits', () => {
  const claims = [1n << 60n, (1n << 64n) - 1n, 1n << 53n, BigInt(MAX_STRING_BYTES) + 1n];

  test.each(claims)('a claim of %s bytes or items is refused at once', (claim) => {
    const header = written((w) => w.u64(claim));
    const before = process.memoryUsage();
    for (const decoder of [
      () => bytes(),
      () => string(),
      () => strings(),
      () => list(() => u64()),
      () => map(() => u64()),
    ]) {
      expect(converse<unknown>(decoder(), [header])).toMatchObject({ failure: 'PROTOCOL_LIMIT' });
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1024 * 1024);
  });

  test('the largest claim that is allowed costs nothing until its bytes arrive', () => {
    const before = process.memoryUsage().arrayBuffers;
    const header = written((w) => w.u64(MAX_STRING_BYTES));
    expect(converse(bytes(), [header, Buffer.alloc(100)])).toMatchObject({ waiting: true });
    expect(converse(strings(), [written((w) => w.u64(MAX_ITEMS))])).toMatchObject({ waiting: true });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
  });

  test('a message that stays within each limit is still refused as a whole', () => {
    const input = written((w) => w.strings(['12345678', '12345678']));
    expect(decodeAll(bounded(strings(), 40), input)).toHaveLength(2);
    expect(refusal(bounded(strings(), 39), input)).toBe('PROTOCOL_LIMIT');
  });
});

describe('maps', () => {
  test('keep their order', () => {
    const input = written((w) => w.u64(2).string('b').u64(1).string('a').u64(2));
    expect([
      ...decodeAll(
        map(() => num()),
        input,
      ),
    ]).toEqual([
      ['b', 1],
      ['a', 2],
    ]);
  });

  test('have no key twice', () => {
    const input = written((w) => w.u64(2).string('a').u64(1).string('a').u64(2));
    expect(
      refusal(
        map(() => num()),
        input,
      ),
    ).toBe('PROTOCOL_MALFORMED');
  });
});
