import type { WorkerClient } from './worker-client.js';
import { formatVersion, type ProtocolVersion } from '../protocol/version.js';

interface Idle {
  readonly client: WorkerClient;
  readonly domain: string;
}

/**
 * Connections to a guest's nix-daemon that earlier sessions have left in the state after the handshake. Later
 * sessions reuse them, since the daemon starts a process for each new one. The daemon remembers nothing of
 * earlier requests but temporary roots. There are never more of them than concurrent sessions, since a
 * session takes one of these first.
 *
 * INVARIANT: a connection is taken only by the trust domain that left it, and only while it is reusable.
 */
export class IdleConnections {
  #idle: Idle[] = [];

  take(version: ProtocolVersion, domain: string): WorkerClient | undefined {
    this.#idle = this.#idle.filter(isReusable);
    const found = this.#idle.findLast(
      (idle) => idle.domain === domain && formatVersion(idle.client.version) === formatVersion(version),
    );
    this.#idle = this.#idle.filter((idle) => idle !== found);
    return found?.client;
  }

  /** Keeps a connection that its session uses no more. One that is not reusable is closed. */
  put(client: WorkerClient, domain: string): void {
    const idle = { client, domain };
    if (isReusable(idle)) this.#idle.push(idle);
  }
}

/** Closes the connection if it is not: the daemon has sent bytes without a request. */
function isReusable({ client }: Idle): boolean {
  if (!client.reusable) client.channel.destroy();
  return client.reusable;
}
