import { describe, expect, test } from '@jest/globals';
import * as operations from '../../../src/protocol/operations.js';
import * as responses from '../../../src/protocol/responses.js';
import { LATEST_VERSION, protocolVersion, type ProtocolVersion } from '../../../src/protocol/version.js';
import { decodeAll } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import * as made from './arbitraries.js';
import { MESSAGES, type Message } from './messages.js';
import { converse, faultsAtEveryByte, refusal } from './support.js';
import fc from '../../support/property.js';

function payloadOf<T>(one: Message<T>, value: T, version: ProtocolVersion): Buffer {
  const encoded = one.encode(value, version);
  if (one.op === undefined) return encoded;
  expect(decodeAll(operations.decodeOp(), encoded.subarray(0, 8))).toBe(one.op);
  return encoded.subarray(8);
}

describe.each(MESSAGES)('%s', (_name, withMessage) => {
  test('comes back as it was, and is written as the same bytes again', () => {
    withMessage((one) => {
      const valued = made.version.chain((version) => fc.tuple(fc.constant(version), one.values(version)));
      fc.assert(
        fc.property(valued, ([version, value]) => {
          const payload = payloadOf(one, value, version);
          const decoded = decodeAll(one.decode(version), payload);
          expect(decoded).toEqual(value);
          expect(payloadOf(one, decoded, version).equals(payload)).toBe(true);
        }),
      );
    });
  });

  test('decodes the same wherever it is split, and waits wherever it is cut', () => {
    withMessage((one) => {
      fc.assert(
        fc.property(one.values(LATEST_VERSION), (value) => {
          const payload = payloadOf(one, value, LATEST_VERSION);
          expect(faultsAtEveryByte(() => one.decode(LATEST_VERSION), payload)).toEqual([]);
        }),
        { numRuns: 3 },
      );
    });
  });

  test('corrupted anywhere it is never more than a protocol error', () => {
    withMessage((one) => {
      const corrupted = fc.tuple(one.values(LATEST_VERSION), fc.nat(), fc.integer({ min: 1, max: 255 }));
      fc.assert(
        fc.property(corrupted, ([value, where, flip]) => {
          const payload = payloadOf(one, value, LATEST_VERSION);
          if (payload.length === 0) return;
          const at = where % payload.length;
          payload[at] = (payload[at] ?? 0) ^ flip;
          converse(one.decode(LATEST_VERSION), [payload]);
        }),
      );
    });
  });
});

describe('requests', () => {
  test('with a path outside of the store, or of no store path, are refused', () => {
    const hash = '0'.repeat(32);
    const bad = [
      '',
      '/',
      '/etc/passwd',
      `/nix/store/${hash}`,
      `/nix/store/${hash}-`,
      `/nix/store/${hash}-a/b`,
    ];
    const worse = [
      `/nix/store/../${hash}-a`,
      `/nix/store/${hash}-..`,
      `/nix/store/${'e'.repeat(32)}-a`,
      `/gnu/store/${hash}-a`,
    ];
    for (const path of [
      ...bad,
      ...worse,
      `/nix/store/${hash}-\udcff`,
      `/nix/store/${hash}-${'a'.repeat(212)}`,
    ]) {
      const payload = new WireWriter().string(path).finish();
      expect([path, refusal(operations.decodeIsValidPath(LATEST_VERSION), payload)]).toEqual([
        path,
        'PROTOCOL_MALFORMED',
      ]);
    }
  });

  test('may speak of another store directory', () => {
    const path = `/gnu/store/${'0'.repeat(32)}-a`;
    const payload = new WireWriter().string(path).finish();
    expect(decodeAll(operations.decodeIsValidPath(LATEST_VERSION, '/gnu/store'), payload)).toBe(path);
  });

  test('with a build mode, status or tag that does not exist are refused', () => {
    const mode = new WireWriter().u64(0).u64(3).finish();
    expect(refusal(operations.decodeBuildPaths(LATEST_VERSION), mode)).toBe('PROTOCOL_MALFORMED');
    const status = new WireWriter().u64(15).string('').finish();
    expect(refusal(responses.decodeBuildDerivationResponse(LATEST_VERSION), status)).toBe(
      'PROTOCOL_MALFORMED',
    );
  });

  test('of 64 MiB and more are refused, however they are made up', () => {
    const claim = 1n << 60n;
    const drv = `/nix/store/${'0'.repeat(32)}-a.drv`;
    const outputs = new WireWriter().string(drv).u64(claim).finish();
    expect(converse(operations.decodeBuildDerivation(LATEST_VERSION), [outputs])).toMatchObject({
      failure: 'PROTOCOL_LIMIT',
    });
    const variable = new WireWriter()
      .string(drv)
      .u64(0)
      .u64(0)
      .string('x')
      .string('y')
      .u64(0)
      .u64(1)
      .string('k');
    const limit = variable.u64(64 * 1024 * 1024).finish();
    expect(converse(operations.decodeBuildDerivation(LATEST_VERSION), [limit])).toMatchObject({
      failure: 'PROTOCOL_LIMIT',
    });
  });
});

describe('outputs of a build', () => {
  const golden = protocolVersion(29);

  test('are told to an old peer as newer Nix tells them', () => {
    const result = {
      status: 'Built' as const,
      errorMessage: '',
      timesBuilt: 1,
      isNonDeterministic: false,
      startTime: 30,
      stopTime: 50,
      builtOutputs: [],
    };
    const path = decodeAll(
      operations.decodeIsValidPath(golden),
      new WireWriter().string('/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar').finish(),
    );
    const output = { outputName: 'bar', outPath: path, signatures: [] };
    const encoded = responses.encodeBuildDerivationResponse({ ...result, builtOutputs: [output] }, golden);
    const id = `sha256:${'0'.repeat(64)}!bar`;
    const json = `{"id":"${id}","outPath":"g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar"}`;
    expect(encoded.includes(json)).toBe(true);
    expect(decodeAll(responses.decodeBuildDerivationResponse(golden), encoded).builtOutputs).toEqual([
      { ...output, legacy: { id, json } },
    ]);
  });

  test.each(['', '[]', '{', 'null', '{"id":"a!b"}', '{"id":1,"outPath":"x"}', '[['.repeat(50_000)])(
    'with %j for JSON are refused',
    (json) => {
      const writer = new WireWriter().u64(0).string('').u64(0).u64(0).u64(0).u64(0);
      const payload = writer.u64(1).string('sha256:0!out').string(json).finish();
      expect(refusal(responses.decodeBuildDerivationResponse(golden), payload)).toBe('PROTOCOL_MALFORMED');
    },
  );
});
