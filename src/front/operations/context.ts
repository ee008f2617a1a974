import type { WaitPlace } from '../../pool/lease.js';
import type { SessionContext } from '../context.js';
import type { AuditedOutput } from '../audit.js';
import type { HostView } from '../host-view.js';
import type { BuildEntry } from '../journal.js';
import type { Placement } from '../placement.js';

/** The session with the two stores behind it, as an operation sees it. */
export interface OperationContext extends SessionContext {
  readonly host: HostView;
  readonly placement: Placement;
  /** Shows a build in `status`; undefined when it has ended. */
  readonly track: (build: RunningBuild | undefined) => void;
}

/** A build that a session has asked for. */
export interface RunningBuild {
  readonly entry: BuildEntry;
  readonly derivation: string;
  readonly system: string;
  readonly startedAt: number;
  /** Id of the guest that it runs in; null while it waits. */
  guest: string | null;
  /** Its place in the queue; undefined once it has a guest. */
  place: (() => WaitPlace) | undefined;
  /** Time that it has waited for guests so far, and since when it waits now. */
  waitedMs: number;
  waitingSince: number | undefined;
  /** Phase that the build has reported, such as `buildPhase`. */
  phase: string | null;
  /** Generation of its guest's image; null before it has a guest. */
  image: string | null;
  /** Processor time in its guest so far; null until it is measured. */
  cpuSeconds: number | null;
  /** Outputs, once they are valid in the guest. Only with an audit log. */
  built: readonly AuditedOutput[];
}
