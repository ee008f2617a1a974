import type { WorkerClient } from '../daemon/worker-client.js';

/**
 * A session's view of the host's store. Disposing of it ends the pins, unless an overlapping session still
 * needs them.
 */
export interface HostConnection
  extends
    Pick<
      WorkerClient,
      | 'ask'
      | 'queryValidPaths'
      | 'queryPathInfos'
      | 'addTempRoots'
      | 'queryDerivationOutputs'
      | 'narFromPath'
      | 'version'
    >,
    AsyncDisposable {
  /** Aborts when the daemon has closed the connection. */
  readonly gone: AbortSignal;
}
