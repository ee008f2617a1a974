import { describe, expect, test } from '@jest/globals';
import { MAX_LOG_FIELDS } from '../../../src/protocol/limits.js';
import {
  ACTIVITY_BUILD,
  decodeStderrFrame,
  encodeErrorFrame,
  encodeStderrFrame,
  remoteError,
  RESULT_BUILD_LOG_LINE,
  RESULT_SET_PHASE,
  Stderr,
  type LogField,
  type StderrFrame,
} from '../../../src/protocol/stderr.js';
import { decodeAll } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { int32, natural, nixString } from './arbitraries.js';
import { converse, refusal } from './support.js';
import fc from '../../support/property.js';

const id = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const fields: fc.Arbitrary<LogField[]> = fc.array(fc.oneof(id, nixString), { maxLength: 4 });

const frame: fc.Arbitrary<StderrFrame> = fc.oneof(
  fc.record({ kind: fc.constant('next' as const), text: nixString }),
  fc.record({ kind: fc.constant('read' as const), length: natural }),
  fc.record({ kind: fc.constant('write' as const), data: fc.uint8Array({ maxLength: 20 }) }),
  fc.record({
    kind: fc.constant('start-activity' as const),
    activity: fc.record({ id, level: int32, type: int32, text: nixString, fields, parent: id }),
  }),
  fc.record({ kind: fc.constant('stop-activity' as const), id }),
  fc.record({ kind: fc.constant('result' as const), id, type: int32, fields }),
  fc.record({
    kind: fc.constant('error' as const),
    error: fc.record({
      level: int32,
      name: nixString,
      message: nixString,
      traces: fc.array(nixString, { maxLength: 3 }),
    }),
  }),
  fc.constant({ kind: 'last' as const }),
);

/** Frames as Nix sends them while it builds. */
const build: readonly StderrFrame[] = [
  {
    kind: 'start-activity',
    activity: {
      id: 7n,
      level: 3,
      type: ACTIVITY_BUILD,
      text: 'building',
      fields: ['/nix/store/x.drv', '', 1n, 1n],
      parent: 0n,
    },
  },
  { kind: 'result', id: 7n, type: RESULT_SET_PHASE, fields: ['buildPhase'] },
  { kind: 'result', id: 7n, type: RESULT_BUILD_LOG_LINE, fields: ['hello'] },
  { kind: 'next', text: 'warning: x\n' },
  { kind: 'write', data: Buffer.from('data') },
  { kind: 'stop-activity', id: 7n },
  { kind: 'error', error: { level: 0, name: 'Error', message: 'no', traces: ['while building'] } },
  { kind: 'last' },
];

/** Plain arrays of bytes compare alike, whether they are Buffers or not. */
function comparable(value: StderrFrame): unknown {
  return value.kind === 'write' ? { kind: 'write', data: [...value.data] } : value;
}

describe('log frames', () => {
  test('come back as they were, byte for byte', () => {
    fc.assert(
      fc.property(frame, (value) => {
        const encoded = encodeStderrFrame(value);
        const decoded = decodeAll(decodeStderrFrame(), encoded);
        expect(comparable(decoded)).toEqual(comparable(value));
        expect(encodeStderrFrame(decoded).equals(encoded)).toBe(true);
      }),
    );
  });

  test.each(build)('$kind: decodes the same wherever it is split, and waits wherever it is cut', (value) => {
    const encoded = encodeStderrFrame(value);
    for (let at = 0; at < encoded.length; at++) {
      const split = converse(decodeStderrFrame(), [encoded.subarray(0, at), encoded.subarray(at)]);
      expect(split.value && comparable(split.value)).toEqual(comparable(value));
      expect(converse(decodeStderrFrame(), [encoded.subarray(0, at)])).toMatchObject({ waiting: true });
    }
  });

  test.each(build)('$kind: a corrupted byte is never more than a protocol error', (value) => {
    const encoded = encodeStderrFrame(value);
    for (let at = 0; at < encoded.length; at++) {
      for (const flip of [0x01, 0x80, 0xff]) {
        const corrupt = Buffer.from(encoded);
        corrupt[at] = (corrupt[at] ?? 0) ^ flip;
        converse(decodeStderrFrame(), [corrupt]);
      }
    }
  });

  test('an unknown frame, field, error type or position is refused', () => {
    const word = (value: number): WireWriter => new WireWriter().u64(value);
    expect(refusal(decodeStderrFrame(), word(1).finish())).toBe('PROTOCOL_MALFORMED');
    const field = word(Stderr.Result).u64(1).u64(1).u64(1).u64(2).u64(0).finish();
    expect(refusal(decodeStderrFrame(), field)).toBe('PROTOCOL_MALFORMED');
    expect(refusal(decodeStderrFrame(), word(Stderr.Error).string('Oops').finish())).toBe(
      'PROTOCOL_MALFORMED',
    );
    const position = word(Stderr.Error).string('Error').u64(0).string('').string('').u64(1).u64(0).finish();
    expect(refusal(decodeStderrFrame(), position)).toBe('PROTOCOL_MALFORMED');
  });

  test('too many fields are refused before they arrive', () => {
    const many = new WireWriter()
      .u64(Stderr.Result)
      .u64(1)
      .u64(1)
      .u64(MAX_LOG_FIELDS + 1)
      .finish();
    expect(converse(decodeStderrFrame(), [many])).toMatchObject({ failure: 'PROTOCOL_LIMIT' });
  });

  test("a daemon's error is thrown without its colours, and other escapes are printable", () => {
    const message = "path '\u001b[35;1m/nix/store/x\u001b[0m' is not valid\u001b[2J";
    const [level, name, traces] = [0, 'Error', []];
    expect(remoteError({ level, name, message, traces }).message).toBe(
      "path '/nix/store/x' is not valid\\u001b[2J",
    );
  });

  test('our own errors are those that Nix shows, and can be thrown', () => {
    const decoded = decodeAll(decodeStderrFrame(), encodeErrorFrame('no builder is free', ['while waiting']));
    if (decoded.kind !== 'error') throw new Error('not an error frame');
    expect(decoded.error).toEqual({
      level: 0,
      name: 'Error',
      message: 'no builder is free',
      traces: ['while waiting'],
    });
    expect(remoteError(decoded.error)).toMatchObject({
      code: 'PROTOCOL_REMOTE_ERROR',
      message: 'no builder is free',
    });
  });
});
