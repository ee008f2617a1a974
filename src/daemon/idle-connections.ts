import type { WorkerClient } from './worker-client.js';
import { formatVersion, type ProtocolVersion } from '../protocol/version.js';

/**
 * Connections to a guest's nix-daemon that earlier sessions have left in the state after the handshake. Later
 * sessions reuse them, since the daemon starts a process for each new one. The daemon remembers nothing of
 * earlier requests but temporary roots. There are never more of them than concurrent sessions, since a
 * session takes one of these first.
 */
export class IdleConnections {
  #clients: WorkerClient[] = [];

  take(version: ProtocolVersion): WorkerClient | undefined {
    const fits = ({ gone, version: other }: WorkerClient): boolean =>
      !gone.aborted && formatVersion(other) === formatVersion(version);
    const found = this.#clients.findLast(fits);
    this.#clients = this.#clients.filter((client) => client !== found && !client.gone.aborted);
    return found;
  }

  /** @param client a connection that no session uses, with no request in flight and no setting changed */
  put(client: WorkerClient): void {
    this.#clients.push(client);
  }
}
