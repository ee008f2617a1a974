import { MAX_MESSAGE_BYTES, MAX_SHORT_STRING_BYTES } from './limits.js';
import { Op, type RequestDecoder } from './operations.js';
import { decodeValidPathInfo, writeValidPathInfo, type ValidPathInfo } from './path-info.js';
import { decodeStorePaths, type StorePath } from './store-path.js';
import { ADD_MULTIPLE_INFO_VERSION } from './version.js';
import { bool, bounded, num, string, type Decoder } from './wire.js';
import { WireWriter } from './wire-writer.js';

/*
 * The requests that carry data. Each is a header, described here, and then a framed stream (framed.ts) whose payload
 * is the data. The daemon may send log frames, and even its error, while the data is still under way.
 */

/** Header of AddToStore (1.25 and later). The payload is the file or NAR; the response a ValidPathInfo. */
export interface AddToStore {
  readonly name: string;
  /** `text:sha256`, `fixed:sha256`, `fixed:r:sha256` and so on. */
  readonly method: string;
  readonly references: readonly StorePath[];
  readonly repair: boolean;
}

export const decodeAddToStore: RequestDecoder<AddToStore> = (_version, storeDir) =>
  bounded(addToStore(storeDir), MAX_MESSAGE_BYTES);

function* addToStore(storeDir?: string): Decoder<AddToStore> {
  return {
    name: yield* string(MAX_SHORT_STRING_BYTES),
    method: yield* string(MAX_SHORT_STRING_BYTES),
    references: yield* decodeStorePaths(storeDir),
    repair: yield* bool(),
  };
}

export function encodeAddToStore(request: AddToStore): Buffer {
  const writer = new WireWriter().u64(Op.AddToStore).string(request.name).string(request.method);
  return writer.strings(request.references).bool(request.repair).finish();
}

/** Header of AddToStoreNar. The payload is the NAR, of `info.narSize` bytes; the response is empty. */
export interface AddToStoreNar {
  readonly info: ValidPathInfo;
  readonly repair: boolean;
  /** Honoured for trusted clients only. */
  readonly dontCheckSignatures: boolean;
}

export const decodeAddToStoreNar: RequestDecoder<AddToStoreNar> = (_version, storeDir) =>
  bounded(addToStoreNar(storeDir), MAX_MESSAGE_BYTES);

function* addToStoreNar(storeDir?: string): Decoder<AddToStoreNar> {
  return {
    info: yield* decodeValidPathInfo(ADD_MULTIPLE_INFO_VERSION, storeDir),
    repair: yield* bool(),
    dontCheckSignatures: yield* bool(),
  };
}

export function encodeAddToStoreNar(request: AddToStoreNar): Buffer {
  const writer = new WireWriter().u64(Op.AddToStoreNar);
  writeValidPathInfo(writer, request.info, ADD_MULTIPLE_INFO_VERSION);
  return writer.bool(request.repair).bool(request.dontCheckSignatures).finish();
}

/**
 * Header of AddMultipleToStore. The payload is a count (`decodePathCount`), and for each path its info
 * (`decodeAddedPath`) and `narSize` bytes of NAR; the response is empty. Nix 2.8 sends it with a count of 0 too.
 */
export interface AddMultipleToStore {
  readonly repair: boolean;
  readonly dontCheckSignatures: boolean;
}

export const decodeAddMultipleToStore: RequestDecoder<AddMultipleToStore> = () => addMultipleToStore();

function* addMultipleToStore(): Decoder<AddMultipleToStore> {
  return { repair: yield* bool(), dontCheckSignatures: yield* bool() };
}

export function encodeAddMultipleToStore(request: AddMultipleToStore): Buffer {
  const writer = new WireWriter().u64(Op.AddMultipleToStore);
  return writer.bool(request.repair).bool(request.dontCheckSignatures).finish();
}

/**
 * Number of paths in the payload of AddMultipleToStore. They are read one by one, so it has no upper bound.
 */
export function decodePathCount(): Decoder<number> {
  return num();
}

export function encodePathCount(count: number): Buffer {
  return new WireWriter().u64(count).finish();
}

/** Metadata before each NAR in that payload: always in the form of protocol 1.16. */
export const decodeAddedPath = (storeDir?: string): Decoder<ValidPathInfo> =>
  bounded(decodeValidPathInfo(ADD_MULTIPLE_INFO_VERSION, storeDir), MAX_MESSAGE_BYTES);

export function encodeAddedPath(info: ValidPathInfo): Buffer {
  const writer = new WireWriter();
  writeValidPathInfo(writer, info, ADD_MULTIPLE_INFO_VERSION);
  return writer.finish();
}
