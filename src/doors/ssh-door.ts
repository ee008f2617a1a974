import { timingSafeEqual } from 'node:crypto';
import { createServer, type Socket } from 'node:net';

import ssh2, { type AuthContext, type Connection, type ParsedKey, type ServerChannel } from 'ssh2';

import type { Front } from '../front/front.js';
import type { ClientIdentity } from '../front/identity.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import { closeServer, listen } from '../lib/listen.js';
import type { Log } from '../lib/log.js';
import type { HostKey } from './host-key.js';
import type { Door } from './socket-door.js';

/** Time limit for a client to authenticate, in milliseconds. */
const AUTHENTICATION_TIMEOUT_MS = 20_000;
/**
 * Ciphers with hardware support. OpenSSH (6.2 and later supports them) would choose another if it were
 * offered, since its own order counts, and large outputs took twice as long.
 */
const CIPHERS: ssh2.CipherAlgorithm[] = ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'];
/**
 * ssh2 compresses in the thread that serves all clients, and crashes if the client has left meanwhile.
 * Clients that ask for compression are served without.
 */
const COMPRESSION: ssh2.CompressionAlgorithm[] = ['none'];
/** Connections that may be open and unauthenticated at the same time. */
const MAX_UNAUTHENTICATED = 64;
/**
 * Interval of keepalive requests to a silent client, in milliseconds, after several of which it is
 * disconnected. OpenSSH with a shared connection (ControlPath) reports that one of its clients has left only
 * when it receives data.
 */
const KEEPALIVE_INTERVAL_MS = 5_000;
const MAX_KEEPALIVES_UNANSWERED = 18;
/** Exit status with which a shell reports an unknown command. */
const EXIT_NO_SUCH_COMMAND = 127;

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

interface KnownKey {
  readonly key: ParsedKey;
  readonly client: SshClient;
}

export interface SshDoorOptions {
  readonly host: string;
  readonly port: number;
  readonly hostKey: HostKey;
  readonly clients: readonly SshClient[];
  readonly log: Log;
  readonly authenticationTimeoutMs?: number;
  readonly keepaliveIntervalMs?: number;
}

export interface SshDoor extends Door {
  /** Address it listens on, with the chosen port if 0 was requested. */
  readonly port: number;
}

/**
 * Opens the ssh door. Only the key identifies a client, so any user name is accepted; a key that is not
 * listed is rejected. The only command is `nix-daemon --stdio`; there are no shells, files, tunnels or
 * agents.
 * @throws DroverError `ADDRESS_IN_USE`, `ADDRESS_UNUSABLE`
 */
export async function openSshDoor(front: Front, options: SshDoorOptions): Promise<SshDoor> {
  const { log, authenticationTimeoutMs = AUTHENTICATION_TIMEOUT_MS } = options;
  const keys = options.clients.map((client) => ({ key: parseKey(client), client }));
  const ssh = new ssh2.Server({
    hostKeys: [options.hostKey.privateKey],
    ident: 'drover',
    algorithms: { cipher: CIPHERS, compress: COMPRESSION },
    keepaliveInterval: options.keepaliveIntervalMs ?? KEEPALIVE_INTERVAL_MS,
    keepaliveCountMax: MAX_KEEPALIVES_UNANSWERED,
  });
  const sockets = new Set<Socket>();
  const pending = new Map<string, Socket>();
  ssh.on('connection', (connection, { ip, port }) => {
    serveConnection(connection, keys, front, log.child({ peer: ip }));
    const socket = pending.get(`${ip} ${port}`);
    connection.once('ready', () => pending.delete(`${ip} ${port}`));
    // ssh2 only ends the socket, which a dead client never notices.
    connection.on('error', () => socket?.destroy());
  });
  // Sockets are accepted here, not by ssh2: without noDelay each packet of a handshake waits for the last one's ACK.
  const server = createServer({ noDelay: true }, (socket) => {
    const peer = `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
    if (pending.size >= MAX_UNAUTHENTICATED) {
      log.warn({ peer: socket.remoteAddress }, 'connection refused: too many unauthenticated connections');
      socket.destroy();
      return;
    }
    sockets.add(socket);
    pending.set(peer, socket);
    const timer = setTimeout(() => {
      if (pending.get(peer) === socket) socket.destroy();
    }, authenticationTimeoutMs);
    socket.once('close', () => {
      clearTimeout(timer);
      sockets.delete(socket);
      if (pending.get(peer) === socket) pending.delete(peer);
    });
    ssh.injectSocket(socket);
  });
  await listen(server, options.port, options.host);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    close: async () => {
      // An idle connection, such as a ControlMaster's, would otherwise keep the server open for ever.
      const closed = closeServer(server);
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function parseKey({ key: line, name }: SshClient): ParsedKey {
  const key = ssh2.utils.parseKey(line);
  if (key instanceof Error)
    throw new DroverError('KEY_UNUSABLE', `The key of ${name} cannot be used: ${key.message}`);
  return key;
}

function serveConnection(connection: Connection, keys: readonly KnownKey[], front: Front, log: Log): void {
  let identity: ClientIdentity | undefined;
  connection.on('authentication', (context) => {
    const client = authenticate(context, keys);
    if (client === undefined) {
      context.reject(['publickey']);
      return;
    }
    identity = identityOf(client);
    context.accept();
  });
  connection.once('ready', () => {
    log.debug('ssh client authenticated');
  });
  connection.on('error', (error) => {
    log.info({ reason: errorMessage(error) }, 'ssh connection failed');
  });
  connection.on('session', (accept) => {
    const session = accept();
    session.on('exec', (acceptExec, _reject, { command }) => {
      const channel = opened(acceptExec());
      if (isNixDaemon(command) && identity !== undefined) serveChannel(channel, front, identity);
      else refuse(channel, `drover: the only command is \`nix-daemon --stdio\`${adviceFor(command)}\n`);
    });
    session.on('shell', (acceptShell) => {
      refuse(
        opened(acceptShell()),
        'drover: there is no shell here; point Nix at this host as an ssh-ng:// store\n',
      );
    });
    session.on('subsystem', (acceptSubsystem) => {
      refuse(opened(acceptSubsystem()), 'drover: subsystems are not supported\n');
    });
  });
}

/** The client whose key is offered or, where there is a signature, proved. */
function authenticate(context: AuthContext, keys: readonly KnownKey[]): SshClient | undefined {
  if (context.method !== 'publickey') return undefined;
  const offered = context.key.data;
  const found = keys.find(({ key }) => {
    const known = key.getPublicSSH();
    return known.length === offered.length && timingSafeEqual(known, offered);
  });
  if (found === undefined) return undefined;
  // Without a signature the client only asks whether the key would be accepted.
  if (context.signature === undefined || context.blob === undefined) return found.client;
  // Contrary to its type, it may also return an error.
  const verified: unknown = found.key.verify(context.blob, context.signature, context.hashAlgo);
  return verified === true ? found.client : undefined;
}

function identityOf({ fingerprint, name, trusted, maxBuilds, maxSessions }: SshClient): ClientIdentity {
  return { door: 'ssh', domain: `key:${fingerprint}`, name, trusted, maxBuilds, maxSessions };
}

/**
 * The channel of a request that was just accepted. Contrary to its type, ssh2 returns none if the channel
 * already has a program or is closing. ssh2 catches the error and ends the connection.
 */
function opened(channel: ServerChannel | undefined): ServerChannel {
  if (channel !== undefined) return channel;
  throw new DroverError('SSH_PROTOCOL', 'The client started a second program on a channel that has one');
}

/** Some versions of Nix quote each word. */
function isNixDaemon(command: string): boolean {
  return command.trim().replaceAll("'", '') === 'nix-daemon --stdio';
}

function adviceFor(command: string): string {
  return command.includes('nix-store --serve') ? '; use ssh-ng:// instead of ssh://' : '';
}

function serveChannel(channel: ServerChannel, front: Front, identity: ClientIdentity): void {
  void front.serve(channel, identity, () => {
    // Before the end: afterwards ssh2 sends no status.
    channel.exit(0);
    channel.end();
  });
}

function refuse(channel: ServerChannel, message: string): void {
  // The client's input is ignored, but unread it would keep the channel open.
  channel.resume();
  channel.on('error', () => undefined);
  channel.stderr.write(message);
  channel.exit(EXIT_NO_SUCH_COMMAND);
  channel.end();
}
