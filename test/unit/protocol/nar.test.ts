import { describe, expect, test } from '@jest/globals';

import { MAX_NAR_DEPTH, NarParser } from '../../../src/protocol/nar.js';
import { NarCheck } from '../../../src/protocol/nar-check.js';
import { narFacts, narOf, type Tree } from '../../support/nar.js';
import { storePath } from '../../support/scripted-daemon.js';
import { chunked, failureOf } from './support.js';
import fc from '../../support/property.js';

const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.uint8Array({ maxLength: 40 }),
    fc.uint8Array({ maxLength: 40 }).map((executable) => ({ executable })),
    fc.string({ minLength: 1, maxLength: 20 }).map((target) => ({ target })),
    fc
      .dictionary(fc.string({ minLength: 1, maxLength: 20 }), tie('tree'), { maxKeys: 4 })
      .map((entries) => ({ entries })),
  ),
}));

/** Bytes that belong to the NAR; undefined if its end has not come. */
function endOf(chunks: readonly Uint8Array[]): number | undefined {
  const parser = new NarParser();
  let bytes = 0;
  for (const chunk of chunks) {
    bytes += parser.push(chunk);
    if (parser.ended) return bytes;
  }
  return undefined;
}

function nested(depth: number): Tree {
  let inner: Tree = new Uint8Array(0);
  for (let i = 0; i < depth; i++) inner = { entries: { d: inner } };
  return inner;
}

describe('a NAR', () => {
  test('ends at its last byte, however the stream is cut and whatever follows', () => {
    fc.assert(
      fc.property(
        tree,
        fc.uint8Array({ maxLength: 40 }),
        fc.integer({ min: 1, max: 200 }),
        (contents, rest, size) => {
          const nar = narOf(contents);
          expect(endOf(chunked(Buffer.concat([nar, rest]), size))).toBe(nar.length);
          expect(endOf([Buffer.concat([nar, rest])])).toBe(nar.length);
        },
      ),
    );
  });

  test('has not ended before its last byte', () => {
    fc.assert(
      fc.property(tree, fc.nat(), (contents, cut) => {
        const nar = narOf(contents);
        expect(endOf([nar.subarray(0, cut % nar.length)])).toBeUndefined();
      }),
    );
  });

  test('is rejected, or ends elsewhere, or stays as long, when a byte is changed: the parser never fails otherwise', () => {
    fc.assert(
      fc.property(tree, fc.nat(), fc.integer({ min: 1, max: 255 }), (contents, at, flip) => {
        const nar = narOf(contents);
        const place = at % nar.length;
        nar[place] = (nar[place] ?? 0) ^ flip;
        expect([undefined, 'PROTOCOL_MALFORMED', 'PROTOCOL_LIMIT']).toContain(failureOf(() => endOf([nar])));
      }),
    );
  });

  test('has a bounded depth', () => {
    const deepest = narOf(nested(MAX_NAR_DEPTH));
    expect(endOf([deepest])).toBe(deepest.length);
    expect(failureOf(() => endOf([narOf(nested(MAX_NAR_DEPTH + 1))]))).toBe('PROTOCOL_LIMIT');
  });

  test.each([
    ['padding that is not zero', narOf(Buffer.from('x')), 'x\0', 'x\x01'],
    ['another magic', narOf(Buffer.from('x')), 'nix-archive-1', 'nix-archive-2'],
    ['another type', narOf(Buffer.from('x')), 'regular', 'special'],
  ])('with %s is rejected', (_name, nar, from, to) => {
    const changed = Buffer.from(nar.toString('latin1').replace(from, to), 'latin1');
    expect(failureOf(() => endOf([changed]))).toBe('PROTOCOL_MALFORMED');
  });
});

describe('a NAR that is compared with its path info', () => {
  const nar = narOf({ entries: { a: Buffer.from('some'), b: { target: 'a' } } });
  const facts = narFacts(nar);
  const path = storePath('p');

  function accepted(bytes: Uint8Array, said: { narHash: string; narSize: number }, size: number): number {
    const check = new NarCheck(path, said);
    let count = 0;
    for (const chunk of chunked(bytes, size)) {
      try {
        count += check.take(chunk);
      } catch {
        return count;
      }
    }
    expect(check.complete).toBe(true);
    return count;
  }

  test('is accepted as a whole if it is right', () => {
    for (const size of [1, 7, 8, 1000]) expect(accepted(nar, facts, size)).toBe(nar.length);
    expect(accepted(nar, { ...facts, narSize: 0 }, 16)).toBe(nar.length);
  });

  test('is never accepted as a whole if it is longer or shorter, or has another hash', () => {
    const wrong = [
      { ...facts, narSize: facts.narSize - 8 },
      { ...facts, narSize: facts.narSize + 8 },
      { ...facts, narHash: '0'.repeat(64) },
    ];
    for (const size of [1, 7, 8, 1000]) {
      for (const said of wrong) expect(accepted(nar, said, size)).toBeLessThan(nar.length);
    }
  });
});
