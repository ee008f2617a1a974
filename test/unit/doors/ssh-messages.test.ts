import { Readable } from 'node:stream';

import { describe, expect, test } from '@jest/globals';

import { parseFromDoor } from '../../../src/doors/ssh/from-door.js';
import { readLines } from '../../../src/doors/ssh/lines.js';
import { RateLimit } from '../../../src/lib/rate-limit.js';
import { FakeClock } from '../../support/fake-clock.js';
import fc from '../../support/property.js';

describe("messages of the ssh door's process", () => {
  test('are rejected unless they are exactly what is expected', () => {
    expect(parseFromDoor('{"type":"ready"}')).toEqual({ type: 'ready' });
    for (const line of [
      '',
      'null',
      '[]',
      '{"type":"ready","more":1}',
      '{"type":"logout","connection":-1}',
      '{"type":"logout","connection":1e400}',
      '{"type":"notice","notice":"constructor","peer":""}',
      '{"type":"login","connection":1,"peer":"","key":"?","signed":"","signature":""}',
      `{"type":"notice","notice":"failed","peer":"${'x'.repeat(2000)}"}`,
    ])
      expect(parseFromDoor(line)).toBeUndefined();
  });

  test('never throw, whatever the line', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
        parseFromDoor(line);
      }),
    );
  });

  test('are split into lines wherever the chunks end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'grapheme' }).filter((line) => !line.includes('\n'))),
        fc.array(fc.nat(20)),
        async (lines, cuts) => {
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const chunks: Buffer[] = [];
          let at = 0;
          for (const cut of cuts) chunks.push(bytes.subarray(at, (at += cut + 1)));
          chunks.push(bytes.subarray(at));
          const seen: string[] = [];
          const stream = Readable.from(chunks.filter(({ length }) => length > 0));
          readLines(stream, 1000, {
            onLine: (line) => seen.push(line),
            onTooLong: () => seen.push('too long'),
          });
          await new Promise((resolve) => stream.once('end', resolve));
          expect(seen).toEqual(lines);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('that are too long end the reading once', async () => {
    const seen: string[] = [];
    const stream = Readable.from([Buffer.alloc(11, 'x'), Buffer.from('\nnext\n')]);
    readLines(stream, 10, { onLine: (line) => seen.push(line), onTooLong: () => seen.push('too long') });
    await new Promise((resolve) => stream.once('end', resolve));
    expect(seen).toEqual(['too long']);
  });
});

describe('a rate limit', () => {
  test('lets a burst through, then one per interval, and counts what it suppressed', async () => {
    const clock = new FakeClock();
    const limit = new RateLimit(clock, { burst: 2, intervalMs: 1000 });
    expect([limit.take('a'), limit.take('a'), limit.take('a'), limit.take('a')]).toEqual([
      0,
      0,
      undefined,
      undefined,
    ]);
    expect(limit.take('b')).toBe(0);
    await clock.advance(1000);
    expect([limit.take('a'), limit.take('a')]).toEqual([2, undefined]);
  });
});
