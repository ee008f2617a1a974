import { describe, expect, test } from '@jest/globals';

import { LogScanner, type LogFrame } from '../../../src/protocol/log-scanner.js';
import { Feeder } from '../../../src/protocol/feeder.js';
import { ByteQueue } from '../../../src/protocol/byte-queue.js';
import {
  decodeStderrFrame,
  encodeErrorFrame,
  encodeStderrFrame,
  Stderr,
  type StderrFrame,
} from '../../../src/protocol/stderr.js';
import { encodeNixString } from '../../../src/protocol/nix-string.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { chunked, failureOf } from './support.js';
import fc from '../../support/property.js';

const number = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const small = fc.nat({ max: 300 });
const words = fc.string({ maxLength: 30 });
const fields = fc.array(fc.oneof(number, words), { maxLength: 4 });
const frame: fc.Arbitrary<StderrFrame> = fc.oneof(
  fc.record({ kind: fc.constant('next' as const), text: words }),
  fc.record({ kind: fc.constant('read' as const), length: small }),
  fc.record({ kind: fc.constant('write' as const), data: fc.uint8Array({ maxLength: 30 }) }),
  fc.record({
    kind: fc.constant('start-activity' as const),
    activity: fc.record({ id: number, level: small, type: small, text: words, fields, parent: number }),
  }),
  fc.record({ kind: fc.constant('stop-activity' as const), id: number }),
  fc.record({ kind: fc.constant('result' as const), id: number, type: small, fields }),
);
const end = fc.constantFrom(encodeStderrFrame({ kind: 'last' }), encodeErrorFrame('it failed'));

function scan(chunks: readonly Uint8Array[]): {
  passed: Buffer;
  rest: Buffer;
  ended: boolean;
  seen: LogFrame[];
} {
  const seen: LogFrame[] = [];
  const scanner = new LogScanner((one) => seen.push(one));
  const passed: Uint8Array[] = [];
  const rest: Uint8Array[] = [];
  for (const chunk of chunks) {
    if (scanner.ended) {
      rest.push(chunk);
      continue;
    }
    passed.push(...scanner.push(chunk));
    rest.push(scanner.rest);
  }
  return { passed: Buffer.concat(passed), rest: Buffer.concat(rest), ended: scanner.ended, seen };
}

/** The frames of bytes that hold nothing else. */
function decode(bytes: Uint8Array): StderrFrame[] {
  const queue = new ByteQueue();
  queue.push(bytes);
  const frames: StderrFrame[] = [];
  while (queue.length > 0) {
    const feeder = new Feeder(decodeStderrFrame(), queue);
    feeder.feed();
    frames.push(feeder.end());
  }
  return frames;
}

/** The part of a frame that an observer sees. */
function observed(one: StderrFrame): LogFrame[] {
  if (one.kind === 'result' || one.kind === 'stop-activity' || one.kind === 'next') return [one];
  return one.kind === 'start-activity'
    ? [{ ...one, activity: { ...one.activity, text: '', fields: [] } }]
    : [];
}

describe("a daemon's log", () => {
  test('passes as it is up to the last frame or an error, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 6 }),
        end,
        fc.uint8Array({ maxLength: 20 }),
        fc.integer({ min: 1, max: 100 }),
        (frames, last, more, size) => {
          const log = Buffer.concat(frames.map(encodeStderrFrame));
          for (const chunks of [
            chunked(Buffer.concat([log, last, more]), size),
            [Buffer.concat([log, last, more])],
          ]) {
            const result = scan(chunks);
            expect(result.ended).toBe(true);
            expect(result.passed.equals(log)).toBe(true);
            expect(result.rest.equals(Buffer.concat([last, more]))).toBe(true);
            expect(result.seen).toEqual(frames.flatMap(observed));
          }
        },
      ),
    );
  });

  test('stops before the next frame when it is asked to', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 6 }),
        end,
        fc.integer({ min: 1, max: 100 }),
        (frames, last, size) => {
          const log = Buffer.concat(frames.map(encodeStderrFrame));
          const seen: LogFrame[] = [];
          const scanner: LogScanner = new LogScanner((one) => {
            seen.push(one);
            scanner.pause();
          });
          const passed: Uint8Array[] = [];
          const chunks = chunked(Buffer.concat([log, last]), size);
          while (!scanner.ended) {
            const before = seen.length;
            passed.push(...scanner.push(chunks.shift() ?? Buffer.alloc(0)));
            expect(seen.length - before).toBeLessThanOrEqual(1);
            if (scanner.rest.length > 0) chunks.unshift(scanner.rest);
          }
          expect(Buffer.concat(passed).equals(log)).toBe(true);
          expect(Buffer.concat(chunks).equals(last)).toBe(true);
          expect(seen).toEqual(frames.flatMap(observed));
        },
      ),
    );
  });

  test('that is cut anywhere is completed to whole frames, the whole ones among them unchanged', () => {
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1, maxLength: 4 }), fc.nat(), (frames, cut) => {
        const log = Buffer.concat(frames.map(encodeStderrFrame));
        const scanner = new LogScanner(() => undefined);
        const sent = [...scanner.push(log.subarray(0, cut % log.length)), ...scanner.completion()];
        const completed = decode(Buffer.concat(sent));
        expect(completed.slice(0, -1)).toEqual(frames.slice(0, Math.max(0, completed.length - 1)));
      }),
    );
  });

  test('has lines of any length, which an observer sees in parts', () => {
    let text = '';
    const seen: LogFrame[] = [];
    const scanner = new LogScanner((one) => {
      if (one.kind === 'result-part') text += one.text;
      else seen.push(one);
    });
    const line = Buffer.alloc(10 * 1024 * 1024 + 3, 'x\u{1f600}y\u{00e9}');
    const frame = new WireWriter().u64(Stderr.Result).u64(7).u64(101).u64(1).u64(1).bytes(line).finish();
    for (const chunk of chunked(frame, 1024 * 1024)) {
      expect(Buffer.concat(scanner.push(chunk)).equals(chunk)).toBe(true);
    }
    scanner.push(encodeStderrFrame({ kind: 'last' }));
    expect(scanner.ended).toBe(true);
    const [last] = seen;
    const rest = last?.kind === 'result' ? last.fields[0] : undefined;
    expect(encodeNixString(text + String(rest)).equals(line)).toBe(true);
    expect(encodeNixString(String(rest)).length).toBeLessThanOrEqual(64 * 1024);
    expect(seen).toEqual([{ kind: 'result', id: 7n, type: 101, fields: [rest] }]);
  });

  test('stops in the middle of a long line when it is asked to', () => {
    let parts = 0;
    const scanner: LogScanner = new LogScanner(() => {
      parts += 1;
      scanner.pause();
    });
    const line = Buffer.alloc(300 * 1024, 'x');
    const frame = new WireWriter().u64(Stderr.Result).u64(7).u64(101).u64(1).u64(1).bytes(line).finish();
    const passed: Uint8Array[] = [];
    let pushes = 0;
    for (let rest: Uint8Array = frame; rest.length > 0; rest = scanner.rest) {
      passed.push(...scanner.push(rest));
      expect(parts).toBe((pushes += 1));
    }
    expect(Buffer.concat(passed).equals(frame)).toBe(true);
    // Four of 64 KiB, and what is left.
    expect(parts).toBe(5);
  });

  test('is completed without another word of a long line that never ends', () => {
    const seen: LogFrame[] = [];
    const scanner = new LogScanner((one) => seen.push(one));
    const begun = new WireWriter().u64(Stderr.Result).u64(7).u64(101).u64(1).u64(1).u64(500_000).finish();
    const sent = Buffer.concat([begun, Buffer.alloc(100_000, 'x')]);
    const passed = [...scanner.push(sent), ...scanner.completion()];
    expect(decode(Buffer.concat(passed))).toMatchObject([{ kind: 'result', id: 7n }]);
    expect(seen.map(({ kind }) => kind)).toEqual(['result-part', 'result']);
  });

  test('with an unknown frame, or too many fields, is rejected', () => {
    const unknown = new WireWriter().u64(0x1234).finish();
    const many = new WireWriter().u64(Stderr.Result).u64(7).u64(101).u64(1_000_000).finish();
    expect([unknown, many].map((bytes) => failureOf(() => scan([bytes])))).toEqual([
      'PROTOCOL_MALFORMED',
      'PROTOCOL_LIMIT',
    ]);
  });
});
