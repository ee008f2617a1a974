import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';

import type { ClientIdentity } from '../../front/identity.js';
import { TOKEN_BYTES } from './messages.js';
import { verifyProof, type KeyProof } from './signature.js';

/** A client that may enter. */
export interface SshClient {
  /** Public key: type and base64. */
  readonly key: string;
  readonly fingerprint: string;
  readonly name: string;
  readonly trusted: boolean;
  readonly maxBuilds: number | undefined;
  readonly maxSessions: number | undefined;
}

/** An ssh connection whose client has proved who it is. */
export interface Login {
  readonly connection: number;
  readonly client: SshClient;
  readonly identity: ClientIdentity;
  /** Admits sessions, in hexadecimal. */
  readonly token: string;
  readonly maxSessions: number;
  readonly streams: Set<Socket>;
}

/** Session identifiers of past logins that are remembered. */
const MAX_REMEMBERED = 65_536;
/** Connections of one client beyond one for each of its sessions: shared ones that are idle. */
const SPARE_CONNECTIONS = 16;

/**
 * Authenticated clients, and keys that are accepted. The ssh door's process is not trusted: it must show what
 * the client has signed, which includes the identifier of that one ssh connection, so it cannot be replayed.
 */
export class Logins {
  #defaultMaxSessions = 0;
  #clients = new Map<string, SshClient>();
  readonly #logins = new Map<number, Login>();
  readonly #tokens = new Map<string, Login>();
  readonly #used = new Set<string>();

  /** Public keys that may log in, in base64. */
  get keys(): readonly string[] {
    return [...this.#clients.keys()];
  }

  /**
   * Replaces the list of those who may log in.
   * @param maxSessions for clients that have no number of their own
   * @returns the logins of clients that are no longer listed, or have other rights now
   */
  configure(clients: readonly SshClient[], maxSessions: number): readonly Login[] {
    this.#defaultMaxSessions = maxSessions;
    this.#clients = new Map(clients.map((client) => [client.key.split(' ')[1] ?? '', client]));
    const byFingerprint = new Map(clients.map((client) => [client.fingerprint, client]));
    return [...this.#logins.values()].filter(({ client }) => {
      const now = byFingerprint.get(client.fingerprint);
      return now === undefined || !sameRights(now, client);
    });
  }

  /** Undefined if the client is not listed, has not proved its key, or has too many connections. */
  admit(connection: number, proof: KeyProof): Login | undefined {
    const client = this.#clients.get(proof.publicKey.toString('base64'));
    if (client === undefined || this.#logins.has(connection)) return undefined;
    const sessionId = verifyProof(proof)?.toString('base64');
    if (sessionId === undefined || this.#used.has(sessionId)) return undefined;
    this.#remember(sessionId);
    const maxSessions = client.maxSessions ?? this.#defaultMaxSessions;
    if (this.#of(client.fingerprint).length >= maxSessions + SPARE_CONNECTIONS) return undefined;
    const token = randomBytes(TOKEN_BYTES).toString('hex');
    const { fingerprint, name, trusted, maxBuilds } = client;
    const login: Login = {
      connection,
      client,
      identity: { door: 'ssh', domain: `key:${fingerprint}`, name, trusted, maxBuilds, maxSessions },
      token,
      maxSessions,
      streams: new Set(),
    };
    this.#logins.set(connection, login);
    this.#tokens.set(token, login);
    return login;
  }

  find(token: string): Login | undefined {
    return this.#tokens.get(token);
  }

  /** Open sessions of the login's client, over all its connections. */
  sessionsOf({ client }: Login): number {
    return this.#of(client.fingerprint).reduce((sum, { streams }) => sum + streams.size, 0);
  }

  /** Ends the login of a connection, if there is one, and its sessions. */
  end(connection: number): void {
    const login = this.#logins.get(connection);
    if (login === undefined) return;
    this.#logins.delete(connection);
    this.#tokens.delete(login.token);
    for (const stream of login.streams) stream.destroy();
  }

  endAll(): void {
    for (const connection of [...this.#logins.keys()]) this.end(connection);
  }

  #of(fingerprint: string): Login[] {
    return [...this.#logins.values()].filter(({ client }) => client.fingerprint === fingerprint);
  }

  #remember(sessionId: string): void {
    this.#used.add(sessionId);
    for (const oldest of this.#used) {
      if (this.#used.size <= MAX_REMEMBERED) break;
      this.#used.delete(oldest);
    }
  }
}

function sameRights(one: SshClient, other: SshClient): boolean {
  return (
    one.name === other.name &&
    one.trusted === other.trusted &&
    one.maxBuilds === other.maxBuilds &&
    one.maxSessions === other.maxSessions
  );
}
