import type { Socket } from 'node:net';

import type { AuthContext, Connection, ServerChannel, Session } from 'ssh2';

import { errorMessage } from '../../lib/errors.js';
import type { Notice } from './messages.js';
import { joinSession, type SessionStream } from './session-stream.js';
import type { Phase } from './startups.js';

/** Exit status with which a shell reports an unknown command. */
const EXIT_NO_SUCH_COMMAND = 127;
/** Keys and other ways that a client may try. */
const MAX_ATTEMPTS = 20;
/** ssh2 would send a window of any size in packets of this size: RFC 4253 asks clients for 32,768 bytes. */
const MIN_PACKET_BYTES = 1024;
/** Bytes that wait for a client before no more of its requests are read, each of which may ask for an answer. */
const MAX_UNREAD_ANSWERS_BYTES = 4 * 1024 * 1024;
/** Time for a client to read why its connection failed, in milliseconds. */
const FAREWELL_MS = 1_000;

/** The data that the client has signed, for the supervisor to verify. */
export interface Proof {
  readonly key: Buffer;
  readonly signed: Buffer;
  readonly signature: Buffer;
}

export interface ConnectionHost {
  readonly isListed: (key: Buffer) => boolean;
  readonly prove: (proof: Proof) => void;
  readonly advance: (phase: Phase) => void;
  readonly authenticated: () => void;
  readonly notice: (notice: Notice, reason?: string) => void;
}

/**
 * Accepts a request on a channel. Contrary to its type, it returns nothing if the channel already has a
 * program.
 */
type AcceptChannel = () => ServerChannel | undefined;

/** One client of the ssh server. Nothing that it sends may throw outside of ssh2's own handler. */
export class ClientConnection {
  readonly #socket: Socket;
  readonly #host: ConnectionHost;
  readonly #sessions = new Set<SessionStream>();
  #channels = 0;
  #attempts = 0;
  /** Waits for the supervisor's answer. */
  #pending: AuthContext | undefined;
  #token: Buffer | undefined;
  #maxChannels = 0;
  #isGone = false;
  /** When it last had a channel, or was authenticated. */
  idleSince = performance.now();
  #authenticatedAt: number | undefined;
  #hasSpoken = false;

  constructor(ssh: Connection, socket: Socket, host: ConnectionHost) {
    this.#socket = socket;
    this.#host = host;
    ssh.on('handshake', () => {
      host.advance(2);
    });
    ssh.on('authentication', (context) => {
      this.#authenticate(context);
    });
    ssh.on('error', (error) => {
      if (this.#isGone) return;
      host.notice('failed', errorMessage(error));
      this.#endSessions();
      // ssh2 tells the client why, and ends the socket. A client that is dead never notices.
      setTimeout(() => socket.destroy(), FAREWELL_MS).unref();
    });
    ssh.on('end', () => {
      this.destroy();
    });
    ssh.on('session', (accept, reject) => {
      if (this.#channels >= this.#maxChannels) reject();
      else this.#openSession(accept());
    });
    socket.on('data', () => {
      if (socket.writableLength > MAX_UNREAD_ANSWERS_BYTES) socket.pause();
    });
    socket.on('drain', () => {
      socket.resume();
      for (const session of this.#sessions) session.resume();
    });
    socket.once('close', () => {
      this.destroy();
    });
  }

  /** Bytes that are held for this client. */
  get bufferedBytes(): number {
    let bytes = this.#socket.writableLength;
    for (const session of this.#sessions) bytes += session.bufferedBytes;
    return bytes;
  }

  /** Since when it has been authenticated without saying a byte of the worker protocol. */
  get speechlessSince(): number | undefined {
    for (const session of this.#sessions) this.#hasSpoken ||= session.hasSpoken;
    return this.#hasSpoken ? undefined : this.#authenticatedAt;
  }

  get hasChannels(): boolean {
    return this.#channels > 0;
  }

  /** The supervisor's answer to a proof. */
  answer(token: Buffer | undefined, maxChannels: number): void {
    const context = this.#pending;
    this.#pending = undefined;
    if (context === undefined || this.#isGone) return;
    if (token === undefined) {
      context.reject(['publickey']);
      return;
    }
    this.#token = token;
    this.#maxChannels = maxChannels;
    this.idleSince = performance.now();
    this.#authenticatedAt = this.idleSince;
    this.#host.authenticated();
    context.accept();
  }

  /** Ends the connection, and says why. */
  cut(notice: Notice): void {
    if (this.#isGone) return;
    this.#host.notice(notice);
    this.destroy();
  }

  destroy(): void {
    this.#endSessions();
    this.#socket.destroy();
  }

  #endSessions(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    for (const session of this.#sessions) session.destroy();
  }

  #authenticate(context: AuthContext): void {
    this.#attempts += 1;
    if (this.#attempts > MAX_ATTEMPTS) {
      this.#host.notice('rejected', `${MAX_ATTEMPTS} attempts`);
      this.destroy();
      return;
    }
    if (
      context.method !== 'publickey' ||
      !this.#host.isListed(context.key.data) ||
      this.#pending !== undefined
    ) {
      context.reject(['publickey']);
      return;
    }
    this.#host.advance(3);
    const { signature, blob, key } = context;
    if (signature === undefined || blob === undefined) {
      // The client only asks whether the key would do.
      context.accept();
      return;
    }
    this.#pending = context;
    this.#host.prove({ key: key.data, signed: blob, signature });
  }

  #openSession(session: Session): void {
    this.#channels += 1;
    session.once('close', () => {
      this.#channels -= 1;
      this.idleSince = performance.now();
    });
    session.on('exec', (accept, _reject, { command }) => {
      this.#start(accept, (channel) => {
        if (isNixDaemon(command)) this.#join(channel);
        else refuse(channel, `drover: the only command is \`nix-daemon --stdio\`${adviceFor(command)}\n`);
      });
    });
    session.on('shell', (accept) => {
      this.#start(accept, (channel) => {
        refuse(channel, 'drover: there is no shell here; point Nix at this host as an ssh-ng:// store\n');
      });
    });
    session.on('subsystem', (accept) => {
      this.#start(accept, (channel) => {
        refuse(channel, 'drover: subsystems are not supported\n');
      });
    });
  }

  #start(accept: AcceptChannel, serve: (channel: ServerChannel) => void): void {
    const channel = accept();
    if (channel === undefined) {
      this.#host.notice('failed', 'it started a second program on a channel that has one');
      this.destroy();
    } else if (packetBytes(channel) < MIN_PACKET_BYTES) {
      this.#host.notice('failed', 'it accepts tiny packets only');
      this.destroy();
    } else serve(channel);
  }

  #join(channel: ServerChannel): void {
    if (this.#token === undefined) return;
    const session = joinSession(channel, this.#token, this.#socket);
    this.#sessions.add(session);
    channel.once('close', () => {
      this.#hasSpoken ||= session.hasSpoken;
      this.#sessions.delete(session);
    });
  }
}

/** ssh2 has it on every channel, but not in its types. */
function packetBytes(channel: ServerChannel): number {
  const { outgoing } = channel as unknown as { readonly outgoing?: { readonly packetSize?: number } };
  return outgoing?.packetSize ?? Infinity;
}

/** Some versions of Nix quote each word. */
function isNixDaemon(command: string): boolean {
  return command.trim().replaceAll("'", '') === 'nix-daemon --stdio';
}

function adviceFor(command: string): string {
  return command.includes('nix-store --serve') ? '; use ssh-ng:// instead of ssh://' : '';
}

function refuse(channel: ServerChannel, message: string): void {
  // The client's input is ignored, but unread it would keep the channel open.
  channel.resume();
  channel.on('error', () => undefined);
  channel.stderr.write(message);
  channel.exit(EXIT_NO_SUCH_COMMAND);
  channel.end();
}
