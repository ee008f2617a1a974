import { describe, expect, test } from '@jest/globals';
import { encodeFrame, encodeFrameEnd, encodeFrameHeader, FrameParser } from '../../../src/protocol/framed.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { chunked, failureOf } from './support.js';
import fc from '../../support/property.js';

function unframe(chunks: readonly Uint8Array[]): { payload: Buffer; rest: Buffer; ended: boolean } {
  const parser = new FrameParser();
  const payload: Uint8Array[] = [];
  const rest: Uint8Array[] = [];
  for (const chunk of chunks) {
    const result = parser.push(chunk);
    payload.push(...result.payload);
    rest.push(result.rest);
  }
  return { payload: Buffer.concat(payload), rest: Buffer.concat(rest), ended: parser.ended };
}

describe('frames', () => {
  test('come off again, however the stream is cut', () => {
    const frames = fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 6 });
    fc.assert(
      fc.property(
        frames,
        fc.uint8Array({ maxLength: 20 }),
        fc.integer({ min: 1, max: 40 }),
        (payloads, tail, size) => {
          const stream = Buffer.concat([...payloads.map(encodeFrame), encodeFrameEnd(), tail]);
          const { payload, rest, ended } = unframe(chunked(stream, size));
          expect(ended).toBe(true);
          expect(payload.equals(Buffer.concat(payloads))).toBe(true);
          expect(rest.equals(tail)).toBe(true);
        },
      ),
    );
  });

  test('a stream that is cut short has not ended, wherever the cut is', () => {
    const payload = Buffer.from('some payload');
    const stream = Buffer.concat([encodeFrame(payload), encodeFrameEnd()]);
    for (let at = 0; at < stream.length; at++) {
      const result = unframe([stream.subarray(0, at)]);
      expect(result.ended).toBe(false);
      expect(payload.subarray(0, result.payload.length).equals(result.payload)).toBe(true);
    }
  });

  test('a frame is passed on before it is complete, and its claim is not allocated', () => {
    const parser = new FrameParser();
    const header = encodeFrameHeader(Number.MAX_SAFE_INTEGER);
    const chunk = Buffer.alloc(1000);
    const { payload } = parser.push(Buffer.concat([header, chunk]));
    expect(payload.map((piece) => piece.length)).toEqual([1000]);
    expect(parser.push(chunk).payload[0]?.buffer).toBe(chunk.buffer);
  });

  test('a frame that is impossibly long is refused', () => {
    const header = new WireWriter().u64(1n << 60n).finish();
    expect(failureOf(() => new FrameParser().push(header))).toBe('PROTOCOL_MALFORMED');
  });

  test('an empty frame is never written by accident: it would end the stream', () => {
    expect(encodeFrame(new Uint8Array(0))).toHaveLength(0);
    expect(failureOf(() => encodeFrameHeader(0))).toBe('PROTOCOL_MALFORMED');
  });
});
