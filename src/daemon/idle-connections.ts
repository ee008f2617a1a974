import type { WorkerClient } from './worker-client.js';
import { formatVersion, type ProtocolVersion } from '../protocol/version.js';

/**
 * Connections to a guest's nix-daemon that earlier sessions have left as they were after the handshake, for later ones:
 * the daemon starts a process for each new one. It remembers nothing of what it was asked but temporary roots. There are
 * never more than sessions at once, since a session takes one of these first.
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

  /** @param client that nobody uses any more, with no request on its way and no setting changed */
  put(client: WorkerClient): void {
    this.#clients.push(client);
  }
}
