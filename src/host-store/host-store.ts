import type { Duplex } from 'node:stream';

import { systemClock, type Clock } from '../lib/clock.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import { spawnStream, type StreamProgram } from '../lib/process.js';
import { connectUnixSocket } from '../lib/unix-socket.js';
import { LATEST_VERSION } from '../protocol/version.js';
import type { HostConnection } from './host-connection.js';
import { SharedConnections } from './shared-connections.js';
import { WorkerClient } from '../daemon/worker-client.js';

/** Time limit for the daemon's handshake, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 30_000;

/** Time for a daemon to end after its last session, in milliseconds: until then, its pins hold. */
const END_TIMEOUT_MS = 2_000;

/** No client's: those have a prefix. */
const OWN_DOMAIN = 'drover';

const DEFAULT_SOCKET = '/nix/var/nix/daemon-socket/socket';

/** The host's own Nix store, reached through its nix-daemon. */
export interface HostStore {
  /**
   * A connection for one session. It never reports a path as valid only because it was valid earlier.
   * @param domain trust domain of the session, which shares connections with none of another; default: Drover's own
   * @throws DroverError `HOST_STORE_UNAVAILABLE`
   */
  connect(domain?: string): Promise<HostConnection>;
  /** Closes connections kept for later sessions: they would keep the process alive. */
  close(): void;
}

/**
 * Uses the daemon's socket if one listens (`NIX_DAEMON_SOCKET_PATH` is respected), otherwise a `nix-daemon
 * --stdio` child, as on a single-user installation. A listening daemon gives each session its own process,
 * which is cheap; a child has to be started, so overlapping sessions of one domain share one. Neither remembers
 * path infos (`openUncachedStore` in Nix's daemon.cc).
 */
export function hostStore(env: NodeJS.ProcessEnv, clock: Clock = systemClock): HostStore {
  const socketPath = env['NIX_DAEMON_SOCKET_PATH'] ?? DEFAULT_SOCKET;
  const handshake = async (stream: Duplex, ended?: Promise<void>): Promise<WorkerClient> => {
    const cancel = clock.after(HANDSHAKE_TIMEOUT_MS, () => stream.destroy());
    try {
      return await WorkerClient.connect(stream, LATEST_VERSION, `The host's nix-daemon`, ended);
    } catch (cause) {
      throw unavailable(`The host's nix-daemon does not answer`, cause);
    } finally {
      cancel();
    }
  };
  const children = new SharedConnections(async () => {
    const { stream, ended } = await startDaemon(env, socketPath);
    const tooLong = new Promise<void>((resolve) => {
      stream.once('close', () => clock.after(END_TIMEOUT_MS, resolve));
    });
    return await handshake(stream, Promise.race([ended, tooLong]));
  }, clock);
  return {
    async connect(domain = OWN_DOMAIN) {
      const socket = await connectSocket(socketPath);
      return socket === undefined ? await children.use(domain) : await handshake(socket);
    },
    close: () => {
      children.close();
    },
  };
}

/** Returns nothing if no daemon listens: the file does not exist, or is stale. */
async function connectSocket(path: string): Promise<Duplex | undefined> {
  try {
    return await connectUnixSocket(path);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR') return undefined;
    throw unavailable(`The socket of the host's nix-daemon, ${path}, cannot be reached`, error);
  }
}

async function startDaemon(env: NodeJS.ProcessEnv, socketPath: string): Promise<StreamProgram> {
  // With NIX_REMOTE=daemon, Nix would look for the socket again and forward to itself for ever.
  const childEnv = { ...env, NIX_REMOTE: env['NIX_REMOTE'] === 'daemon' ? '' : env['NIX_REMOTE'] };
  try {
    return await spawnStream('nix-daemon', ['--stdio'], childEnv);
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
  return new DroverError(
    'HOST_STORE_UNAVAILABLE',
    cause === undefined ? message : `${message}: ${errorMessage(cause)}`,
    {
      cause,
      hint: 'Install Nix (on Debian: apt-get install nix-bin), or start its daemon.',
    },
  );
}
