import { describe, expect, test } from '@jest/globals';
import { ByteQueue } from '../../../src/protocol/byte-queue.js';
import { Feeder } from '../../../src/protocol/feeder.js';
import { bytes, num, string, strings, type Conversation } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { chunked, failureOf } from './support.js';
import fc from '../../support/property.js';

const MIB = 1024 * 1024;

describe('ByteQueue', () => {
  test('gives back the bytes in order, however they are pushed and taken', () => {
    const step = fc.oneof(
      fc.record({ push: fc.oneof(fc.nat(40), fc.integer({ min: 4000, max: 5000 }), fc.constant(70_000)) }),
      fc.record({ take: fc.oneof(fc.nat(40), fc.nat(9000)) }),
      fc.record({ parts: fc.nat(9000) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const queue = new ByteQueue();
        let pushed = 0;
        let taken = 0;
        const expectNext = (got: Uint8Array): void => {
          const expected = Uint8Array.from({ length: got.length }, () => taken++ % 251);
          expect(Buffer.compare(got, expected)).toBe(0);
        };
        for (const one of steps) {
          if ('push' in one) {
            queue.push(Uint8Array.from({ length: one.push }, () => pushed++ % 251));
          } else if ('take' in one) {
            const got = queue.take(one.take);
            expect(got === undefined).toBe(one.take > pushed - taken);
            if (got !== undefined) expectNext(got);
          } else {
            queue.takeParts(one.parts).forEach(expectNext);
          }
          expect(queue.length).toBe(pushed - taken);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('what was taken stays as it is while more is pushed', () => {
    const queue = new ByteQueue();
    queue.push(Buffer.from('abcd'));
    const first = queue.take(2);
    for (let i = 0; i < 10_000; i++) queue.push(Buffer.from('xy'));
    expect(Buffer.from(first ?? []).toString()).toBe('ab');
  });

  test('single bytes cost no more than a small multiple of themselves', () => {
    const queue = new ByteQueue();
    const before = process.memoryUsage();
    const one = Buffer.alloc(1);
    for (let i = 0; i < MIB; i++) queue.push(one);
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2 * MIB);
    expect(queue.takeParts().length).toBeLessThan(100);
  });
});

describe('Feeder', () => {
  test('reads one message after another from the same queue', () => {
    const queue = new ByteQueue();
    const input = new WireWriter().string('first').u64(7).string('rest').finish();
    const first = new Feeder(string(), queue, { capture: true });
    expect(first.feed(input)).toEqual({ done: true, send: [], value: 'first' });
    expect(Buffer.concat(first.raw())).toEqual(input.subarray(0, 16));
    expect(first.consumedBytes).toBe(16);
    expect(new Feeder(num(), queue).feed()).toEqual({ done: true, send: [], value: 7 });
    expect(Buffer.concat(first.rest())).toEqual(input.subarray(24));
    expect(queue.length).toBe(0);
  });

  test('says how much is missing', () => {
    const feeder = new Feeder(string());
    expect(feeder.feed()).toEqual({ done: false, send: [], wanted: 8 });
    expect(feeder.feed(Buffer.alloc(5))).toEqual({ done: false, send: [], wanted: 3 });
  });

  test('hands out what a conversation says, in its place', () => {
    function* echo(): Conversation<string> {
      yield Buffer.from('who?');
      const name = yield* string();
      yield Buffer.from(`hello ${name}`);
      return name;
    }
    const feeder = new Feeder(echo());
    const said = (parts: readonly Uint8Array[]): string => Buffer.concat(parts).toString();
    expect(said(feeder.feed().send)).toBe('who?');
    const done = feeder.feed(new WireWriter().string('Nix').finish());
    expect(said(done.send)).toBe('hello Nix');
    expect(feeder.feed()).toEqual({ done: true, send: [], value: 'Nix' });
  });

  test('the end of the stream is an error unless the message is complete', () => {
    const feeder = new Feeder(num());
    feeder.feed(Buffer.alloc(7));
    expect(failureOf(() => feeder.end())).toBe('PROTOCOL_TRUNCATED');
    feeder.feed(Buffer.alloc(1));
    expect(feeder.end()).toBe(0);
  });

  test('a large message in many chunks takes linear time, and comes back whole', () => {
    const body = Buffer.alloc(32 * MIB, 'x');
    const input = new WireWriter().bytes(body).finish();
    const feeder = new Feeder(bytes(), undefined, { capture: true });
    const started = performance.now();
    for (const chunk of chunked(input, 1000)) feeder.feed(chunk);
    expect(feeder.end().length).toBe(body.length);
    expect(Buffer.concat(feeder.raw()).equals(input)).toBe(true);
    expect(performance.now() - started).toBeLessThan(20_000);
  });

  test('short captured pieces do not pin the chunks that they came in', () => {
    const input = new WireWriter().strings(Array.from({ length: 20_000 }, () => 'x')).finish();
    const feeder = new Feeder(strings(), undefined, { capture: true });
    for (const chunk of chunked(input, 16)) feeder.feed(chunk);
    const pinned = new Set(feeder.raw().map((piece) => piece.buffer));
    const pinnedBytes = [...pinned].reduce((sum, buffer) => sum + buffer.byteLength, 0);
    expect(pinnedBytes).toBeLessThan(2 * input.length + 128 * 1024);
    expect(Buffer.concat(feeder.raw()).equals(input)).toBe(true);
  });
});
