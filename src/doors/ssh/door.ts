import { closeSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';

import type { Front } from '../../front/front.js';
import { systemClock, type Clock } from '../../lib/clock.js';
import { count } from '../../lib/human.js';
import { closeServer, listen } from '../../lib/listen.js';
import type { Log } from '../../lib/log.js';
import { duplicateListener, lookUpUser, type UserIds } from '../../lib/native.js';
import { printable } from '../../lib/printable.js';
import { makePrivateDir } from '../../lib/private-dir.js';
import type { HostKey } from '../host-key.js';
import type { Door } from '../socket-door.js';
import { DoorProcess } from './door-process.js';
import type { FromDoor } from './from-door.js';
import { Logins, type Login, type SshClient } from './logins.js';
import { NOTICES, STREAM_ACCEPTED, STREAM_REFUSED, type SshLimits } from './messages.js';
import { RateLimit } from '../../lib/rate-limit.js';
import { listenForStreams } from './streams.js';

export const SSH_LIMITS: SshLimits = {
  authenticationTimeoutMs: 20_000,
  silenceTimeoutMs: 5_000,
  speechlessTimeoutMs: 30_000,
  idleTimeoutMs: 30 * 60_000,
  // OpenSSH with a shared connection (ControlPath) notices that one of its clients has left only when something comes.
  keepaliveIntervalMs: 5_000,
  // Some 25 KB each.
  maxUnauthenticated: 512,
  maxUnauthenticatedPerSource: 256,
  maxBufferedBytes: 256 * 1024 * 1024,
};
/** Users that the process may run as, the best first. Only root can choose. */
const USERS = ['drover-ssh', '_drover-ssh', 'nobody'];
/** Delays before the process is started again, in milliseconds: the first one, and the longest one. */
const RESTART_DELAYS_MS = [100, 10_000] as const;
/** A process that has lived this long is started again without delay, in milliseconds. */
const SOUND_AFTER_MS = 60_000;

export interface SshDoorOptions {
  readonly host: string;
  readonly port: number;
  readonly hostKey: HostKey;
  readonly clients: readonly SshClient[];
  /** Open sessions of a client for which the configuration names no number. */
  readonly maxSessions: number;
  /** Directory for the process, made if need be: all that it can see of the file system. */
  readonly dir: string;
  /** The compiled server-main.js. */
  readonly program: string;
  readonly log: Log;
  readonly clock?: Clock;
  readonly limits?: Partial<SshLimits>;
}

/**
 * The ssh door: an ssh server in a process without rights (server-main.ts), which talks to all clients that
 * are not authenticated yet. This side verifies the clients' proofs, and serves the sessions that the process
 * passes on. If the process ends, so do its connections, and it is restarted.
 */
export class SshDoor implements Door {
  /** Where it listens: the port that was chosen, if 0 was asked for. */
  readonly port: number;
  readonly #front: Front;
  readonly #options: SshDoorOptions;
  readonly #clock: Clock;
  readonly #listener: number;
  readonly #user: UserIds;
  readonly #logins = new Logins();
  readonly #noticeLimit: RateLimit;
  #process: DoorProcess | undefined;
  #closeStreams: () => Promise<void> = () => Promise.resolve();
  #closed = false;
  #suspended = false;
  #running: Promise<void> = Promise.resolve();
  #wakeRestart: () => void = () => undefined;

  private constructor(front: Front, options: SshDoorOptions, listener: { fd: number; port: number }) {
    this.port = listener.port;
    this.#front = front;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#listener = listener.fd;
    this.#user = userOfProcess();
    this.#logins.configure(options.clients, options.maxSessions);
    this.#noticeLimit = new RateLimit(this.#clock, { burst: 20, intervalMs: 6_000 });
  }

  /**
   * Opens the door. Users are told apart by their keys alone, so any user name will do. The only command is
   * `nix-daemon --stdio`; there are no shells, files, tunnels or agents.
   * @throws DroverError `ADDRESS_IN_USE`, `ADDRESS_UNUSABLE`, `SSH_DOOR_FAILED`
   */
  static async open(front: Front, options: SshDoorOptions): Promise<SshDoor> {
    const door = new SshDoor(front, options, await makeListener(options));
    try {
      await makePrivateDir(options.dir);
      // Its parents are closed to others. The process, which has another user, must be able to enter it.
      await chmod(options.dir, 0o711);
      door.#closeStreams = await listenForStreams(options.dir, door.#user, door.#clock, (token, stream) => {
        door.#serve(token, stream);
      });
      const first = await door.#start();
      await first.ready;
      door.#running = door.#keepRunning(first);
      return door;
    } catch (error) {
      await door.close();
      throw error;
    }
  }

  /** Process id of the ssh server; undefined while there is none. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Applies a change of the clients at once: who may not enter any more is cut off. */
  configure(clients: readonly SshClient[], maxSessions: number): void {
    for (const { connection, client } of this.#logins.configure(clients, maxSessions)) {
      this.#options.log.info(
        { client: client.name },
        'ssh client cut off: its key or its rights have changed',
      );
      this.#process?.send({ type: 'cut', connection });
      this.#logins.end(connection);
    }
    this.#process?.send({ type: 'keys', keys: this.#logins.keys });
  }

  /** Refuses sessions from now on, and keeps the open ones. */
  suspend(): void {
    this.#suspended = true;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#wakeRestart();
    this.#logins.endAll();
    await this.#process?.kill();
    await this.#running;
    await this.#closeStreams();
    closeSync(this.#listener);
  }

  async #start(): Promise<DoorProcess> {
    const { program, dir, hostKey, limits } = this.#options;
    const door = await DoorProcess.start({
      ...{ program, dir, user: this.#user, listener: this.#listener },
      onMessage: (message) => {
        this.#receive(message);
      },
    });
    door.send({
      type: 'start',
      hostKey: hostKey.privateKey,
      keys: this.#logins.keys,
      limits: { ...SSH_LIMITS, ...limits },
    });
    this.#process = door;
    return door;
  }

  /** Starts the process again whenever it has ended, after a delay that grows while it does not last. */
  async #keepRunning(first: DoorProcess): Promise<void> {
    let running: DoorProcess | undefined = first;
    let delayMs: number = RESTART_DELAYS_MS[0];
    for (;;) {
      const startedAt = this.#clock.now();
      const reason = running === undefined ? 'it cannot be started' : await running.exited;
      this.#process = undefined;
      this.#logins.endAll();
      if (this.#isClosed()) return;
      if (this.#clock.now() - startedAt >= SOUND_AFTER_MS) delayMs = RESTART_DELAYS_MS[0];
      this.#options.log.error(
        { reason, delayMs },
        'ssh door process ended with its connections; starting it again',
      );
      await this.#pause(delayMs);
      // The supervisor may have been closed meanwhile.
      if (this.#isClosed()) return;
      delayMs = Math.min(RESTART_DELAYS_MS[1], delayMs * 2);
      running = await this.#start().catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'ssh door process cannot be started');
        return undefined;
      });
      // Closed while it was started: `close` has not seen it.
      if (this.#isClosed()) await running?.kill();
    }
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  async #pause(delayMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(delayMs, resolve);
      this.#wakeRestart = () => {
        cancel();
        resolve();
      };
    });
  }

  #receive(message: FromDoor): void {
    switch (message.type) {
      case 'ready':
        return;
      case 'login': {
        const { connection } = message;
        const login = this.#logins.admit(connection, {
          publicKey: Buffer.from(message.key, 'base64'),
          signed: Buffer.from(message.signed, 'base64'),
          signature: Buffer.from(message.signature, 'base64'),
        });
        const { token = null, maxSessions: maxChannels = 0 } = login ?? {};
        this.#process?.send({ type: 'answer', connection, token, maxChannels });
        if (login !== undefined) this.#logLogin(login, message.peer);
        return;
      }
      case 'logout':
        this.#logins.end(message.connection);
        return;
      case 'notice': {
        const { level, message: text } = NOTICES[message.notice];
        const suppressed = this.#noticeLimit.take(message.notice);
        if (suppressed === undefined) return;
        const { peer, reason } = message;
        this.#options.log[level](
          {
            peer: printable(peer),
            ...(reason === undefined ? {} : { reason: printable(reason) }),
            ...(suppressed === 0 ? {} : { suppressed }),
          },
          text,
        );
      }
    }
  }

  #logLogin({ client }: Login, peer: string): void {
    const suppressed = this.#noticeLimit.take(`login of ${client.fingerprint}`);
    if (suppressed === undefined) return;
    const { name, fingerprint } = client;
    this.#options.log.info(
      { peer: printable(peer), client: name, fingerprint, ...(suppressed === 0 ? {} : { suppressed }) },
      'ssh client logged in',
    );
  }

  #serve(token: string, stream: Socket): void {
    const login = this.#logins.find(token);
    if (login === undefined) {
      stream.destroy();
      return;
    }
    const { client, maxSessions, streams, identity } = login;
    if (this.#suspended) {
      refuse(stream, 'Drover is shutting down here, and takes no new builds');
      return;
    }
    if (this.#logins.sessionsOf(login) >= maxSessions) {
      const advice = "lower max-jobs in the client's machines file, or raise maxSessions of its key";
      refuse(stream, `${client.name} has ${count(maxSessions, 'open session')}, its limit; ${advice}`);
      return;
    }
    streams.add(stream);
    stream.once('close', () => streams.delete(stream));
    stream.write(Buffer.from([STREAM_ACCEPTED]));
    void this.#front.serve(stream, identity);
  }
}

function refuse(stream: Socket, reason: string): void {
  stream.write(Buffer.from([STREAM_REFUSED]));
  stream.end(`drover: ${reason}\n`);
  stream.resume();
}

/** A listening socket that this process accepts nothing from. */
async function makeListener({ host, port }: SshDoorOptions): Promise<{ fd: number; port: number }> {
  const server = createServer();
  await listen(server, port, host);
  const address = server.address();
  const fd = duplicateListener(server);
  await closeServer(server);
  return { fd, port: typeof address === 'object' && address !== null ? address.port : port };
}

function userOfProcess(): UserIds {
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  if (uid !== 0) return { uid, gid };
  for (const name of USERS) {
    const user = lookUpUser(name);
    if (user !== undefined) return user;
  }
  // The number of `nobody` on Linux, which small systems do not list.
  return { uid: 65_534, gid: 65_534 };
}
