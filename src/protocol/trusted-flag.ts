import { malformed } from './protocol-error.js';
import { num, type Decoder } from './wire.js';
import type { WireWriter } from './wire-writer.js';

/**
 * Whether the daemon trusts its client: `undefined` is "unknown"
 * (`Serialise<std::optional<TrustedFlag>>` in worker-protocol.cc).
 */
export type TrustedFlag = boolean | undefined;

/** 0 unknown, 1 trusted, 2 not trusted. */
export function* decodeTrustedFlag(): Decoder<TrustedFlag> {
  const tag = yield* num();
  if (tag > 2) throw malformed(`${tag} is not a trust flag`);
  return tag === 0 ? undefined : tag === 1;
}

export function writeTrustedFlag(writer: WireWriter, trusted: TrustedFlag): void {
  writer.u64(trusted === undefined ? 0 : trusted ? 1 : 2);
}
