/**
 * The ssh server: a separate program, started by door-process.ts as `server-main.js UID GID` in its
 * directory, with the control channel and the listening socket as descriptors 3 and 4. It first gives up all
 * rights, and only then reads input: keys and limits from the supervisor (messages.ts), ssh from clients.
 */
import { writeFileSync } from 'node:fs';
import { createServer, Socket } from 'node:net';

import ssh2 from 'ssh2';

import { renouncePrivileges } from '../../lib/native.js';
import { ClientConnection } from './connection.js';
import {
  CONTROL_FD,
  LISTENER_FD,
  MAX_MESSAGE_BYTES,
  type Notice,
  type SshLimits,
  type ToDoor,
} from './messages.js';
import type { FromDoor } from './from-door.js';
import { holdKexinit } from './hold-kexinit.js';
import { readLines } from './lines.js';
import { announceSignatureAlgorithms } from './signature-algorithms.js';
import { Startups } from './startups.js';

/** Key exchanges as strong as ed25519. ssh2 has none that resists quantum computers. */
const KEY_EXCHANGES: ssh2.KexAlgorithm[] = ['curve25519-sha256', 'curve25519-sha256@libssh.org'];
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
/** After so many requests for a sign of life without an answer the client is dead. */
const MAX_KEEPALIVES_UNANSWERED = 18;
/** Time between two looks at what is idle or buffered, in milliseconds. */
const REVIEW_MS = 1_000;
/** Notices are dropped while more than this waits for the supervisor, in bytes. */
const MAX_CONTROL_BYTES = 1024 * 1024;
/** When the kernel lacks memory, this process ends before builds do. */
const OOM_SCORE_ADJ = '800';

type Start = Extract<ToDoor, { readonly type: 'start' }>;

const control = openControl();
const connections = new Map<number, ClientConnection>();
let listed = new Set<string>();

function openControl(): Socket {
  const [uid = NaN, gid = NaN] = process.argv.slice(2).map(Number);
  try {
    writeFileSync('/proc/self/oom_score_adj', OOM_SCORE_ADJ);
  } catch {
    // Not Linux.
  }
  renouncePrivileges(process.cwd(), { uid, gid });
  const socket = new Socket({ fd: CONTROL_FD });
  socket.on('error', () => process.exit(1));
  // Without a supervisor there is nothing to do.
  socket.on('close', () => process.exit(0));
  return socket;
}

function send(message: FromDoor): void {
  if (message.type === 'notice' && control.writableLength > MAX_CONTROL_BYTES) return;
  control.write(`${JSON.stringify(message)}\n`);
}

readLines(control, MAX_MESSAGE_BYTES * 1024, {
  onLine: (line) => {
    receive(JSON.parse(line) as ToDoor);
  },
  onTooLong: () => process.exit(1),
});

function receive(message: ToDoor): void {
  switch (message.type) {
    case 'start':
      listed = new Set(message.keys);
      serve(message);
      return;
    case 'keys':
      listed = new Set(message.keys);
      return;
    case 'answer': {
      const { connection, token, maxChannels } = message;
      connections
        .get(connection)
        ?.answer(token === null ? undefined : Buffer.from(token, 'hex'), maxChannels);
      return;
    }
    case 'cut':
      connections.get(message.connection)?.destroy();
  }
}

function serve({ hostKey, limits }: Start): void {
  const ssh = new ssh2.Server({
    hostKeys: [hostKey],
    ident: 'drover',
    algorithms: { kex: KEY_EXCHANGES, cipher: CIPHERS, compress: COMPRESSION },
    keepaliveInterval: limits.keepaliveIntervalMs,
    keepaliveCountMax: MAX_KEEPALIVES_UNANSWERED,
  });
  const startups = new Startups<Socket>(limits.maxUnauthenticated, limits.maxUnauthenticatedPerSource);
  const byPeer = new Map<string, Socket>();
  let count = 0;
  ssh.on('connection', (client, { ip, port }) => {
    const socket = byPeer.get(`${ip} ${port}`);
    if (socket === undefined) return;
    announceSignatureAlgorithms(client);
    const connection = ++count;
    const peer = ip;
    startups.advance(socket, 1);
    socket.once('close', () => {
      connections.delete(connection);
      send({ type: 'logout', connection });
    });
    const notice = (what: Notice, reason?: string): void => {
      send({
        type: 'notice',
        notice: what,
        peer,
        ...(reason === undefined ? {} : { reason: reason.slice(0, 256) }),
      });
    };
    connections.set(
      connection,
      new ClientConnection(client, socket, {
        notice,
        isListed: (key) => listed.has(key.toString('base64')),
        prove: ({ key, signed, signature }) => {
          const [k, d, s] = [key, signed, signature].map((bytes) => bytes.toString('base64'));
          send({ type: 'login', connection, peer, key: k ?? '', signed: d ?? '', signature: s ?? '' });
        },
        advance: (phase) => {
          startups.advance(socket, phase);
        },
        authenticated: () => {
          startups.delete(socket);
        },
      }),
    );
  });
  // Sockets are accepted here, not by ssh2: without noDelay each packet of a handshake waits for the last one's ACK.
  const server = createServer({ noDelay: true }, (socket) => {
    const { remoteAddress = '', remotePort = 0 } = socket;
    const peer = `${remoteAddress} ${remotePort}`;
    const dropped = startups.admit(socket, remoteAddress);
    if (dropped !== undefined) {
      send({ type: 'notice', notice: 'dropped', peer: dropped.remoteAddress ?? '' });
      dropped.destroy();
    }
    byPeer.set(peer, socket);
    const timers = [
      setTimeout(() => {
        cutUnless(socket.bytesRead > 0);
      }, limits.silenceTimeoutMs),
      setTimeout(() => {
        cutUnless(!startups.has(socket));
      }, limits.authenticationTimeoutMs),
    ];
    const cutUnless = (isFine: boolean): void => {
      if (isFine) return;
      send({ type: 'notice', notice: 'timeout', peer: remoteAddress });
      socket.destroy();
    };
    socket.once('close', () => {
      for (const timer of timers) clearTimeout(timer);
      startups.delete(socket);
      if (byPeer.get(peer) === socket) byPeer.delete(peer);
    });
    // Until ssh2 listens.
    socket.on('error', () => undefined);
    holdKexinit(socket);
    ssh.injectSocket(socket);
  });
  // If no more files can be opened, one connection fails, not the process.
  server.on('error', () => undefined);
  server.listen({ fd: LISTENER_FD }, () => {
    send({ type: 'ready' });
  });
  setInterval(() => {
    review(limits);
  }, REVIEW_MS);
}

/** Ends clients that are idle for too long, and the one for which most is held if too much is held for all. */
function review(limits: SshLimits): void {
  const now = performance.now();
  let held = 0;
  let most: { readonly connection: ClientConnection; readonly bytes: number } | undefined;
  for (const connection of connections.values()) {
    const bytes = connection.bufferedBytes;
    held += bytes;
    if (most === undefined || bytes > most.bytes) most = { connection, bytes };
    if (now - (connection.speechlessSince ?? now) > limits.speechlessTimeoutMs) connection.cut('speechless');
    else if (!connection.hasChannels && now - connection.idleSince > limits.idleTimeoutMs)
      connection.cut('idle');
  }
  if (held > limits.maxBufferedBytes) most?.connection.cut('buffers');
}
