import { parseHash } from './hash.js';
import { MAX_SHORT_STRING_BYTES } from './limits.js';
import { malformed } from './protocol-error.js';
import { string, type Decoder } from './wire.js';

/** How the content of a content-addressed path was hashed. */
type ContentAddressMethod = 'text' | 'flat' | 'nar' | 'git';

/** The input from which the name of a content-addressed path was computed (content-address.hh in Nix). */
export interface ContentAddress {
  readonly method: ContentAddressMethod;
  readonly algorithm: string;
  /** The digits as they were on the wire: Nix writes its base 32, and reads every spelling. */
  readonly hash: string;
}

const PREFIX: Readonly<Record<ContentAddressMethod, string>> = {
  text: 'text:',
  flat: 'fixed:',
  nar: 'fixed:r:',
  git: 'fixed:git:',
};

const FORM = /^(text:|fixed:(?:r:|git:)?)([a-z0-9]+):([0-9a-zA-Z+/=]+)$/;

/**
 * `text:sha256:<digits>`, `fixed:sha1:<digits>`, `fixed:r:…` or `fixed:git:…`.
 * @throws ProtocolError `PROTOCOL_MALFORMED`
 */
function parseContentAddress(text: string): ContentAddress {
  const [, prefix, algorithm, hash] = FORM.exec(text) ?? [];
  const method = METHODS.find((candidate) => PREFIX[candidate] === prefix);
  if (method === undefined || algorithm === undefined || hash === undefined) {
    throw malformed('This is not a content address', { text: text.slice(0, 200) });
  }
  parseHash(hash, algorithm);
  return { method, algorithm, hash };
}

const METHODS: readonly ContentAddressMethod[] = ['text', 'flat', 'nar', 'git'];

/** The text that `parseContentAddress` reads; the empty string for none. */
export function formatContentAddress(address: ContentAddress | undefined): string {
  return address === undefined ? '' : `${PREFIX[address.method]}${address.algorithm}:${address.hash}`;
}

export function* decodeContentAddress(): Decoder<ContentAddress> {
  return parseContentAddress(yield* string(MAX_SHORT_STRING_BYTES));
}

/** A content address, or nothing as the empty string. */
export function* decodeOptionalContentAddress(): Decoder<ContentAddress | undefined> {
  const text = yield* string(MAX_SHORT_STRING_BYTES);
  return text === '' ? undefined : parseContentAddress(text);
}
