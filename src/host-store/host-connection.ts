import type { WorkerClient } from '../daemon/worker-client.js';
import type { ProtocolVersion } from '../protocol/version.js';

/** Questions to the host's store, and pins in it. */
export type HostQueries = Pick<
  WorkerClient,
  'ask' | 'queryValidPaths' | 'queryPathInfos' | 'addTempRoots' | 'queryDerivationOutputs' | 'narFromPath'
>;

/** A connection to the host's store. Disposing of it ends its pins. */
export interface HostConnection extends HostQueries, AsyncDisposable {
  readonly version: ProtocolVersion;
  /** Aborts when the daemon has closed the connection. */
  readonly gone: AbortSignal;
}
