import { MAX_ITEMS, MAX_SHORT_STRING_BYTES } from './limits.js';
import { malformed } from './protocol-error.js';
import { decodeStorePath, storePathFromBaseName, type StorePath } from './store-path.js';
import { string, strings, type Decoder } from './wire.js';
import type { WireWriter } from './wire-writer.js';

/** Which output of which derivation, when the feature `realisation-with-path-not-hash` was agreed on. */
export interface DrvOutput {
  readonly drvPath: StorePath;
  readonly outputName: string;
}

/** The store path that an output was realised as. */
export interface UnkeyedRealisation {
  readonly outPath: StorePath;
  /** `<key name>:<base64>` each, in the order of the wire. */
  readonly signatures: readonly string[];
}

/** An output together with its store path. */
export interface Realisation extends UnkeyedRealisation {
  readonly id: DrvOutput;
}

/**
 * A realisation without that feature: JSON in a string. Its contents changed between Nix versions, so the
 * text is kept and sent on unchanged; only the fields that every version has are read.
 */
export interface JsonRealisation {
  /** `sha256:<hash of the derivation modulo its inputs>!<output name>` */
  readonly id: string;
  readonly outputName: string;
  readonly outPath: StorePath;
  readonly json: string;
}

/** Bytes of one realisation as JSON. One with a thousand dependencies is a tenth of that. */
const MAX_REALISATION_JSON_BYTES = 1024 * 1024;

export function* decodeDrvOutput(storeDir?: string): Decoder<DrvOutput> {
  return { drvPath: yield* decodeStorePath(storeDir), outputName: yield* string(MAX_SHORT_STRING_BYTES) };
}

export function* decodeUnkeyedRealisation(storeDir?: string): Decoder<UnkeyedRealisation> {
  return {
    outPath: yield* decodeStorePath(storeDir),
    signatures: yield* strings(MAX_ITEMS, MAX_SHORT_STRING_BYTES),
  };
}

export function* decodeRealisation(storeDir?: string): Decoder<Realisation> {
  return { id: yield* decodeDrvOutput(storeDir), ...(yield* decodeUnkeyedRealisation(storeDir)) };
}

export function writeDrvOutput(writer: WireWriter, id: DrvOutput): void {
  writer.string(id.drvPath).string(id.outputName);
}

export function writeUnkeyedRealisation(writer: WireWriter, realisation: UnkeyedRealisation): void {
  writer.string(realisation.outPath).strings(realisation.signatures);
}

export function writeRealisation(writer: WireWriter, realisation: Realisation): void {
  writeDrvOutput(writer, realisation.id);
  writeUnkeyedRealisation(writer, realisation);
}

/**
 * A realisation as JSON (`realisation.cc` in Nix up to 2.34). Written back as `writer.string(value.json)`.
 * @throws ProtocolError `PROTOCOL_MALFORMED`
 */
export function* decodeJsonRealisation(storeDir?: string): Decoder<JsonRealisation> {
  return parseJsonRealisation(yield* string(MAX_REALISATION_JSON_BYTES), storeDir);
}

/** @throws ProtocolError `PROTOCOL_MALFORMED` unless it is an object with at least `id` and `outPath`. */
function parseJsonRealisation(json: string, storeDir?: string): JsonRealisation {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw malformed('A realisation is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || !('id' in parsed) || !('outPath' in parsed)) {
    throw malformed('A realisation lacks its id or its path');
  }
  const { id, outPath } = parsed;
  if (typeof id !== 'string' || typeof outPath !== 'string') {
    throw malformed('The id or the path of a realisation is not a string');
  }
  return { id, outputName: outputNameOf(id), outPath: storePathFromBaseName(outPath, storeDir), json };
}

/**
 * The output's name in `sha256:<hash>!<name>`.
 * @throws ProtocolError `PROTOCOL_MALFORMED`
 */
export function outputNameOf(drvOutputId: string): string {
  const at = drvOutputId.indexOf('!');
  if (at < 0) throw malformed('This is not the id of an output', { id: drvOutputId.slice(0, 200) });
  return drvOutputId.slice(at + 1);
}
