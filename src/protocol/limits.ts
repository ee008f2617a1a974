/*
 * Every bound of the worker-protocol codec. Nix itself has none: it allocates what a length field claims. A
 * peer of Drover may be an unprivileged local user, or a guest in which a build has escaped its sandbox, so
 * each claim is checked before anything is allocated for it.
 */

const MIB = 1024 * 1024;

/**
 * Bytes of one request, response or log frame. A BuildDerivation with a large `__json` environment and
 * thousands of inputs is tens of megabytes; nothing legitimate was seen near this.
 */
export const MAX_MESSAGE_BYTES = 64 * MIB;

/** Bytes of one string: a single environment variable or log message may fill its message. */
export const MAX_STRING_BYTES = 64 * MIB;

/** Bytes of one store path as text. Nix allows 211 for the name; the rest is for unusual store directories. */
export const MAX_STORE_PATH_BYTES = 4096;

/** Bytes of a hash, content address, output name, setting name or signature. */
export const MAX_SHORT_STRING_BYTES = 16 * 1024;

/** Items of one list, set or map. The closure of a whole Hydra jobset stays under this. */
export const MAX_ITEMS = 1_000_000;

/** Bytes that a peer may make a handshake read, its log frames included. */
export const MAX_HANDSHAKE_BYTES = MIB;

/** Protocol features that a peer may offer. Nix knows fewer than ten. */
export const MAX_FEATURES = 256;

/** Bytes of a feature's name, and of the Nix version that a daemon reports. */
export const MAX_VERSION_STRING_BYTES = 1024;

/** Fields of one activity or result. Nix sends at most six. */
export const MAX_LOG_FIELDS = 1024;

/** Traces of one error. Nix cuts them off far earlier unless `--show-trace` is given. */
export const MAX_ERROR_TRACES = 100_000;

/**
 * Chunks shorter than this many bytes are copied together until they are decoded, so that a peer that sends
 * single bytes does not cost an object for each.
 */
export const COALESCE_BELOW_BYTES = 4096;

/** Size of the first block that short chunks are copied into, in bytes; each further one is 16 times as large. */
export const COALESCE_FIRST_BYTES = 256;

/** Size of the largest of these blocks, in bytes. */
export const COALESCE_BLOCK_BYTES = 64 * 1024;
