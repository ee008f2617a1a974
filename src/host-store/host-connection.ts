import type { WorkerClient } from '../daemon/worker-client.js';

/** What a session asks of the host's store. Disposing ends the pins, unless a session that overlaps still needs them. */
export interface HostConnection
  extends
    Pick<
      WorkerClient,
      'queryValidPaths' | 'queryPathInfos' | 'addTempRoots' | 'queryDerivationOutputs' | 'narFromPath'
    >,
    AsyncDisposable {
  /** Aborts when the daemon has closed the connection. */
  readonly gone: AbortSignal;
}
