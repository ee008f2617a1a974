import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import {
  FEATURE_REALISATION_WITH_PATH,
  protocolVersion,
  type ProtocolVersion,
} from '../../../src/protocol/version.js';
import { bounded, decodeAll, type Decoder } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { GOLDEN_KINDS, NESTED_KIND, type Kind } from './golden-kinds.js';
import { converse, faultsAtEveryByte, refusal } from './support.js';

/*
 * Bytes from Nix's own test suite. DROVER_GOLDEN_DIR may name a further directory of the same kind, such as that of
 * another release: every .bin file in it is then tested too.
 */
const directories = [
  join(import.meta.dirname, '../../fixtures/worker-protocol'),
  ...(process.env['DROVER_GOLDEN_DIR'] === undefined ? [] : [process.env['DROVER_GOLDEN_DIR']]),
];

const FEATURE_SUFFIX = `-${FEATURE_REALISATION_WITH_PATH}`;

/** Variants of a kind whose name would be taken for a kind's own. */
const ALIASES: Readonly<Record<string, string>> = { 'realisation-with-deps': 'realisation' };

/** `build-result-1.29-compat` is (build-result, 1.29); no version is Nix's default for these tests, 1.10. */
function interpret(file: string): { kind: string; version: ProtocolVersion } {
  const stem = basename(file, '.bin');
  if (stem.endsWith(FEATURE_SUFFIX)) {
    const bare = stem.slice(0, -FEATURE_SUFFIX.length);
    const kind = GOLDEN_KINDS.has(`${bare}+`) ? `${bare}+` : bare;
    return { kind, version: protocolVersion(38, [FEATURE_REALISATION_WITH_PATH]) };
  }
  const [, kind = stem, minor = '10'] = /^(.*?)[-_]1[._](\d+)(?:-compat)?$/.exec(stem) ?? [];
  return { kind: ALIASES[kind] ?? kind, version: protocolVersion(Number(minor)) };
}

/** As many values as the bytes hold: Nix's tuples are their parts, one after the other. */
function decodeEvery<T>(decode: () => Decoder<T>, bytes: Buffer): { values: T[]; ends: number[] } {
  const values: T[] = [];
  const ends: number[] = [0];
  let at = 0;
  while (at < bytes.length) {
    const { value, raw, waiting, failure } = converse(decode(), [bytes.subarray(at)]);
    if (waiting || failure !== undefined) throw new Error(`${failure ?? 'truncated'} at byte ${at}`);
    values.push(value as T);
    at += raw.length;
    ends.push(at);
  }
  return { values, ends };
}

function expectedJson(path: string): unknown[] | undefined {
  let text: string;
  try {
    text = readFileSync(path.replace(/\.bin$/, '.json'), 'utf8');
  } catch {
    return undefined;
  }
  const parsed: unknown = JSON.parse(text);
  return Array.isArray(parsed) ? (parsed as unknown[]) : [parsed];
}

function checkFile<T>(kind: Kind<T>, version: ProtocolVersion, path: string, one: boolean): void {
  const bytes = readFileSync(path);
  const decode = (): Decoder<T> => kind.decode(version);
  const { values, ends } = one
    ? { values: [decodeAll(decode(), bytes)], ends: [0, bytes.length] }
    : decodeEvery(decode, bytes);

  const json = expectedJson(path);
  if (json !== undefined) {
    if (kind.toJson === undefined) throw new Error('There is JSON beside a file of a kind that has none');
    const expected = one ? [json] : json;
    expect(values.map((value, i) => kind.toJson?.(value, expected[i]))).toEqual(expected);
  }

  const writer = new WireWriter();
  for (const value of values) kind.write(writer, value, version);
  expect(writer.finish().equals(bytes)).toBe(true);

  values.forEach((_, i) => {
    checkEveryByte(decode, bytes.subarray(ends[i], ends[i + 1]));
  });
}

/** Split at every position, the value is the same; cut at every position, there is none. */
function checkEveryByte<T>(decode: () => Decoder<T>, bytes: Buffer): void {
  expect(faultsAtEveryByte(decode, bytes)).toEqual([]);
  expect(refusal(decode(), Buffer.concat([bytes, Buffer.alloc(1)]))).toBe('PROTOCOL_MALFORMED');
  if (bytes.length > 0) expect(refusal(bounded(decode(), bytes.length - 1), bytes)).toBe('PROTOCOL_LIMIT');
}

describe.each(directories)('golden bytes in %s', (directory) => {
  const files = readdirSync(directory).filter((name) => name.endsWith('.bin'));

  test('there are some', () => {
    expect(files.length).toBeGreaterThan(0);
  });

  test.each(files)('%s', (file) => {
    const { kind, version } = interpret(file);
    const path = join(directory, file);
    if (kind === 'vector' || kind === 'set') {
      NESTED_KIND((nested) => {
        checkFile(nested, version, path, true);
      });
      return;
    }
    const known = GOLDEN_KINDS.get(kind);
    if (known === undefined) throw new Error(`Golden bytes of an unknown kind: ${kind}`);
    known((typed) => {
      checkFile(typed, version, path, false);
    });
  });
});
