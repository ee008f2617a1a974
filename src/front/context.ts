import type { Channel } from '../daemon/channel.js';
import type { NameInspector } from '../guest/case-hack.js';
import type { HostStore } from '../host-store/host-store.js';
import type { Clock } from '../lib/clock.js';
import type { Emitter } from '../lib/emitter.js';
import type { Log } from '../lib/log.js';
import type { Leaser } from '../pool/lease.js';
import type { ProtocolVersion } from '../protocol/version.js';
import type { PathSigner } from '../protocol/signature.js';
import type { AuditTrail } from './audit.js';
import type { ClientIdentity, ClientPolicy } from './identity.js';
import type { FrontEvent } from './events.js';
import type { BuildJournal } from './journal.js';
import type { SessionEvent } from './state.js';

/** Surroundings of every session of a front. */
export interface Surroundings {
  readonly hostStore: Pick<HostStore, 'connect'>;
  readonly leaser: Leaser;
  readonly caseHack: NameInspector;
  readonly journal: BuildJournal;
  /** undefined: nothing is recorded. */
  readonly audit: AuditTrail | undefined;
  /** undefined: nothing is signed. */
  readonly signer: PathSigner | undefined;
  /** Nix systems that are built here now. A guest may turn out not to build one of them. */
  readonly systems: () => readonly string[];
  /** Systems whose programs a translator runs. */
  readonly translated: () => ReadonlySet<string>;
  /** Rights that the current configuration grants to untrusted clients. */
  readonly policy: () => ClientPolicy;
  readonly clock: Clock;
  readonly events: Emitter<FrontEvent>;
  readonly log: Log;
}

/** One session, as everything that serves it sees it. */
export interface SessionContext extends Surroundings {
  readonly id: number;
  readonly identity: ClientIdentity;
  readonly client: Channel;
  /** Negotiated with the client. A guest must speak the same version, because its bytes are passed on. */
  readonly version: ProtocolVersion;
  readonly move: (event: SessionEvent) => void;
  /** Refused operations and settings that were reported once. */
  readonly noted: Set<string>;
}
