import { MAX_STORE_PATH_BYTES } from './limits.js';
import { malformed } from './protocol-error.js';
import { list, string, type Decoder } from './wire.js';

declare const validated: unique symbol;

/** A whole store path, such as `/nix/store/<hash>-<name>`, with a valid form. It need not exist. */
export type StorePath = string & { readonly [validated]: true };

const DEFAULT_STORE_DIR = '/nix/store';

/** 32 digits of Nix's base 32, then a name of 1 to 211 characters (path.cc in Nix). */
const BASE_NAME = /^[0-9abcdfghijklmnpqrsvwxyz]{32}-(?!\.{1,2}(?:-|$))[0-9a-zA-Z+\-._?=]{1,211}$/;

/**
 * Checks the form of a store path: directly in `storeDir`, with nothing after it.
 * @throws ProtocolError `PROTOCOL_MALFORMED`
 */
export function parseStorePath(text: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  if (!text.startsWith(`${storeDir}/`)) throw notAStorePath(text);
  checkBaseName(text.slice(storeDir.length + 1));
  return text as StorePath;
}

/**
 * The store path of a base name, `<hash>-<name>`.
 * @throws ProtocolError `PROTOCOL_MALFORMED`
 */
export function storePathFromBaseName(baseName: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  checkBaseName(baseName);
  return `${storeDir}/${baseName}` as StorePath;
}

/** `<hash>-<name>` of a store path. */
export function baseNameOf(path: StorePath): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** A store path as text (`Serialise<StorePath>` in common-protocol.cc). */
export function* decodeStorePath(storeDir?: string): Decoder<StorePath> {
  return parseStorePath(yield* string(MAX_STORE_PATH_BYTES), storeDir);
}

/** A store path, or nothing as the empty string. */
export function* decodeOptionalStorePath(storeDir?: string): Decoder<StorePath | undefined> {
  const text = yield* string(MAX_STORE_PATH_BYTES);
  return text === '' ? undefined : parseStorePath(text, storeDir);
}

/** A set of store paths, in the order of the wire: Nix sorts them. At most `MAX_ITEMS`. */
export function decodeStorePaths(storeDir?: string): Decoder<StorePath[]> {
  return list(() => decodeStorePath(storeDir));
}

function checkBaseName(baseName: string): void {
  if (!BASE_NAME.test(baseName)) throw notAStorePath(baseName);
}

function notAStorePath(text: string): Error {
  return malformed(`This is not a store path: ${JSON.stringify(text.slice(0, 300))}`);
}
