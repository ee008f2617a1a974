import { malformed } from './protocol-error.js';
import { num, type Decoder } from './wire.js';
import type { WireWriter } from './wire-writer.js';

/** Build what is missing; build again what is broken; or build again and compare. */
export type BuildMode = 'normal' | 'repair' | 'check';

/** The index is the number on the wire (`Serialise<BuildMode>` in worker-protocol.cc). */
const MODES: readonly BuildMode[] = ['normal', 'repair', 'check'];

/** @throws ProtocolError `PROTOCOL_MALFORMED` for any number but 0, 1 and 2. */
export function* decodeBuildMode(): Decoder<BuildMode> {
  const wire = yield* num();
  const mode = MODES[wire];
  if (mode === undefined) throw malformed(`${wire} is not a build mode`);
  return mode;
}

export function writeBuildMode(writer: WireWriter, mode: BuildMode): void {
  writer.u64(MODES.indexOf(mode));
}
