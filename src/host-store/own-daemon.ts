import type { ChildProcess } from 'node:child_process';
import { rm } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import { join } from 'node:path';

import { startChild, type Child } from '../lib/child.js';
import type { CancelTimer, Clock } from '../lib/clock.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import { OOM_SCORE } from '../lib/process.js';
import { makePrivateDir } from '../lib/private-dir.js';
import { findProgram } from '../lib/programs.js';
import { connectUnixSocket } from '../lib/unix-socket.js';

/** Time limit for the daemon to listen, in milliseconds. */
const START_MS = 30_000;
const POLL_INTERVAL_MS = 2;
/** Lifetime of the daemon after its last connection, in milliseconds: the next one may be of a newer Nix. */
const IDLE_MS = 60_000;
/** Bytes kept of what the daemon says before it listens. */
const MAX_WORDS_BYTES = 4096;

/**
 * A nix-daemon of Drover's own, for a host where none listens, as on a single-user installation. It serves each
 * connection in a process that it forks, which costs far less than a program that is started for each. The directory,
 * which is this user's alone, keeps others from its socket.
 */
export class OwnDaemon {
  readonly #directory: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #clock: Clock;
  #running: Promise<ChildProcess> | undefined;
  #connections = 0;
  #hasDirectory = false;
  #cancelExpiry: CancelTimer = () => undefined;

  /** @param directory is made when the daemon starts, and removed when it ends; its parent is this user's alone */
  constructor(directory: string, env: NodeJS.ProcessEnv, clock: Clock) {
    this.#directory = directory;
    this.#env = env;
    this.#clock = clock;
  }

  /**
   * @param until see `connectUnixSocket`
   * @throws DroverError `PROGRAM_NOT_FOUND`, `PROGRAM_FAILED`, `HOST_EXHAUSTED`
   */
  async connect(until: number): Promise<Duplex> {
    this.#connections += 1;
    this.#cancelExpiry();
    try {
      await (this.#running ?? this.#start());
      const stream = await connectUnixSocket(this.#socket, this.#clock, until);
      stream.once('close', this.#onClosed);
      return stream;
    } catch (error) {
      this.#onClosed();
      throw error;
    }
  }

  /** Ends the daemon. Connections go on until they are closed. */
  async close(): Promise<void> {
    this.#cancelExpiry();
    await this.#end();
    // Until then the directory may be that of another supervisor, for which this one gives way.
    if (!this.#hasDirectory) return;
    // If it cannot be looked at, the start has failed for that and said so.
    await rm(this.#directory, { recursive: true, force: true }).catch(() => undefined);
  }

  get #socket(): string {
    return join(this.#directory, 'socket');
  }

  readonly #onClosed = (): void => {
    this.#connections -= 1;
    if (this.#connections === 0) this.#cancelExpiry = this.#clock.after(IDLE_MS, () => void this.#end());
  };

  #start(): Promise<ChildProcess> {
    const running = this.#spawn();
    const forget = (): void => {
      if (this.#running === running) this.#running = undefined;
    };
    running.then((child) => {
      child.once('exit', forget);
      // It may have ended as soon as it listened.
      if (child.exitCode !== null || child.signalCode !== null) forget();
    }, forget);
    this.#running = running;
    return running;
  }

  async #end(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    // It only accepts and forks. SIGTERM is lost on it if it comes just before it waits for a connection.
    (await running?.catch(() => undefined))?.kill('SIGKILL');
  }

  async #spawn(): Promise<ChildProcess> {
    if ((await findProgram(this.#env, 'nix-daemon')) === undefined)
      throw new DroverError('PROGRAM_NOT_FOUND', 'nix-daemon is not on PATH');
    this.#hasDirectory = true;
    await rm(this.#directory, { recursive: true, force: true });
    await makePrivateDir(this.#directory);
    // With "daemon" it would look for a socket, find its own, and forward to itself for ever.
    const remote = this.#env['NIX_REMOTE'] ?? '';
    const isOther = !['', 'auto', 'daemon'].includes(remote);
    const env = {
      ...this.#env,
      NIX_DAEMON_SOCKET_PATH: this.#socket,
      NIX_REMOTE: isOther ? remote : 'local',
    };
    // Only this user can connect.
    const words = ['--option', 'trusted-users', '*', '--option', 'allowed-users', '*'];
    const setpriv = process.platform === 'linux' ? await findProgram(env, 'setpriv') : undefined;
    // macOS has no setpriv; there, a nix-daemon listens on every installation.
    const wrapper = setpriv === undefined ? undefined : ([setpriv] as const);
    const stdio = ['ignore', 'ignore', 'pipe'] as const;
    const child = await startChild(wrapper, 'nix-daemon', words, [...stdio], {
      env,
      oomScore: OOM_SCORE.client,
    });
    await untilItListens(child, this.#socket);
    return child.process;
  }
}

async function untilItListens(child: Child, socket: string): Promise<void> {
  let words = '';
  child.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-MAX_WORDS_BYTES);
  });
  const end = performance.now() + START_MS;
  for (;;) {
    try {
      (await connectUnixSocket(socket)).destroy();
      return;
    } catch (cause) {
      // Its last words are read by then.
      if (!child.ended && performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
        continue;
      }
      child.process.kill('SIGKILL');
      const said = words.trim() === '' ? errorMessage(cause) : words.trim();
      throw new DroverError('PROGRAM_FAILED', `nix-daemon does not listen: ${said}`);
    }
  }
}
