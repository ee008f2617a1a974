import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

import { systemClock, type Clock } from '../lib/clock.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import { Mutex } from '../lib/mutex.js';
import { exhaustion } from '../lib/exhaustion.js';
import { connectUnixSocket, queueDeadline } from '../lib/unix-socket.js';
import { LATEST_VERSION } from '../protocol/version.js';
import type { HostConnection } from './host-connection.js';
import { OwnDaemon } from './own-daemon.js';
import { SpareConnection } from './spare-connection.js';
import { WorkerClient } from '../daemon/worker-client.js';

/** Time limit for the daemon's handshake, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 30_000;

const DEFAULT_SOCKET = '/nix/var/nix/daemon-socket/socket';

/** The host's own Nix store, reached through its nix-daemon. */
export interface HostStore {
  /**
   * A connection for one session. It never reports a path as valid only because it was valid earlier.
   * @throws DroverError `HOST_STORE_UNAVAILABLE`
   */
  connect(): Promise<HostConnection>;
  /** Ends the daemon of Drover's own, if there is one. */
  close(): Promise<void>;
}

/**
 * Uses the daemon's socket if one listens (`NIX_DAEMON_SOCKET_PATH` is respected), otherwise a daemon of Drover's own,
 * as on a single-user installation. Either gives each session a process, which remembers no path infos
 * (`openUncachedStore` in Nix's daemon.cc).
 * @param directory for the daemon of Drover's own; see `OwnDaemon`
 */
export function hostStore(env: NodeJS.ProcessEnv, directory: string, clock: Clock = systemClock): HostStore {
  const socketPath = env['NIX_DAEMON_SOCKET_PATH'] ?? DEFAULT_SOCKET;
  const own = new OwnDaemon(directory, env, clock);
  // One at a time: if its queue is full, a thousand that try again would keep the daemon from taking any.
  const queueing = new Mutex();
  let connectedAt = -Infinity;
  const spare = new SpareConnection(async () => {
    const askedAt = clock.now();
    const stream = await queueing.run(async () => {
      // A daemon that takes one after the other is not to blame for those that came before.
      const until = queueDeadline(Math.max(askedAt, connectedAt));
      const connected =
        (await connectSocket(socketPath, clock, until)) ?? (await connectOwn(own, socketPath, until));
      connectedAt = clock.now();
      return connected;
    });
    const cancel = clock.after(HANDSHAKE_TIMEOUT_MS, () => stream.destroy());
    try {
      return await WorkerClient.connect(stream, LATEST_VERSION, `The host's nix-daemon`, clock);
    } catch (cause) {
      throw unavailable(`The host's nix-daemon does not answer`, cause);
    } finally {
      cancel();
    }
  }, clock);
  return {
    connect: () => spare.connect(),
    close: async () => {
      await spare.close();
      await own.close();
    },
  };
}

/** Asks the host's store outside of the supervisor. @throws DroverError `HOST_STORE_UNAVAILABLE` */
export async function withHostStore<T>(
  env: NodeJS.ProcessEnv,
  ask: (connection: HostConnection) => Promise<T>,
): Promise<T> {
  const parent = await mkdtemp(join(tmpdir(), 'drover-'));
  const store = hostStore(env, join(parent, 'host'));
  try {
    await using connection = await store.connect();
    return await ask(connection);
  } finally {
    await store.close();
    await rm(parent, { recursive: true, force: true });
  }
}

/** Returns nothing if no daemon listens: the file does not exist, or is stale. */
async function connectSocket(path: string, clock: Clock, until: number): Promise<Duplex | undefined> {
  try {
    return await connectUnixSocket(path, clock, until);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR') return undefined;
    throw unavailable(`The socket of the host's nix-daemon, ${path}, cannot be reached`, error);
  }
}

async function connectOwn(own: OwnDaemon, socketPath: string, until: number): Promise<Duplex> {
  try {
    return await own.connect(until);
  } catch (cause) {
    if (errorCode(cause) === 'PROGRAM_NOT_FOUND') {
      throw unavailable(
        `There is no Nix on this host: nothing listens at ${socketPath}, and nix-daemon is not on PATH`,
        undefined,
      );
    }
    throw unavailable(`The host's nix-daemon cannot be used`, cause);
  }
}

function unavailable(message: string, cause: unknown): DroverError {
  if (cause instanceof DroverError && cause.code === 'HOST_EXHAUSTED') return cause;
  const lack = exhaustion(cause, message);
  if (lack !== undefined) return lack;
  return new DroverError(
    'HOST_STORE_UNAVAILABLE',
    cause === undefined ? message : `${message}: ${errorMessage(cause)}`,
    {
      cause,
      hint: 'Install Nix (on Debian: apt-get install nix-bin), or start its daemon.',
    },
  );
}
