import type { ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Duplex, Readable } from 'node:stream';

import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError } from '../../lib/errors.js';
import { humanBytes } from '../../lib/human.js';
import { connectUnixSocket } from '../../lib/unix-socket.js';
import { type ExecResult, type GuestMemory, guestGone, type RunningGuest } from '../../guest/driver.js';
import type { ProgramRequest, RunningProgram } from '../../guest/program.js';
import { runInGuest, startInGuest } from './agent-client.js';
import type { GuestCgroup } from './cgroups.js';
import { startHelper, type GuestSetup } from './helper.js';

/** Time that `stop` gives the guest to end by itself, in milliseconds. */
const STOP_TIMEOUT_MS = 2_000;

/**
 * Time limit for a verb of drover-guest once it has its input, in milliseconds: registering a million paths
 * takes less.
 */
const EXEC_TIMEOUT_MS = 60_000;

export interface NamespaceGuestSpec {
  readonly setup: GuestSetup;
  /** The compiled drover-namespace. */
  readonly helper: string;
  /** Variables of the nix-daemon's environment. */
  readonly env: NodeJS.ProcessEnv;
  readonly cgroup?: GuestCgroup | undefined;
  readonly consoleLog: Pick<ConsoleLog, 'follow' | 'close' | 'tail'>;
  /**
   * Removes its files from the host. If that fails, the next supervisor does it.
   * @param stopped it was told to end, so its console is of no interest
   */
  readonly cleanUp: (stopped: boolean) => Promise<void>;
  /** Its first process runs. */
  readonly onStarted: () => void;
}

/**
 * A set of namespaces and the processes in it, below drover-namespace. The kernel kills drover-namespace when
 * this process dies, and then process 1 of the guest, which also ends when its standard input does. The
 * supervisor reaches the guest by two sockets in the guest's directory on the host, whose listening ends the
 * guest inherits: it never follows a path, or enters a namespace, that the guest controls.
 */
export class NamespaceGuest implements RunningGuest {
  readonly #spec: NamespaceGuestSpec;
  readonly #child: ChildProcess;
  readonly exited: Promise<string>;
  #gone = false;
  #stopped = false;

  private constructor(spec: NamespaceGuestSpec, child: ChildProcess) {
    this.#spec = spec;
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) if (stream !== null) spec.consoleLog.follow(stream);
    child.stdin?.on('error', () => undefined);
    this.exited = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        this.#gone = true;
        spec.consoleLog.close();
        void this.#cleanUp().then((memory) => {
          resolve(howEnded(code, signal) + outOfMemory(memory));
        });
      });
    });
  }

  /** Never rejects. @returns its memory at the end */
  async #cleanUp(): Promise<GuestMemory | undefined> {
    const memory = this.memory();
    await this.#spec.cgroup?.remove();
    await this.#spec.cleanUp(this.#stopped).catch(() => undefined);
    return memory;
  }

  /** Starts a guest and waits for its daemon. @throws DroverError `BOOT_FAILED`; nothing of it runs then */
  static async start(spec: NamespaceGuestSpec, signal: AbortSignal): Promise<NamespaceGuest> {
    const guest = new NamespaceGuest(spec, await startHelper(spec.helper, spec.setup, spec.env));
    spec.onStarted();
    const onAbort = (): void => void guest.kill();
    signal.addEventListener('abort', onAbort, { once: true });
    // It may have been given up while its files were written.
    if (signal.aborted) onAbort();
    try {
      await guest.#ready();
      signal.throwIfAborted();
      return guest;
    } catch (cause) {
      await guest.kill();
      throw cause;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #ready(): Promise<void> {
    let said = '';
    for await (const chunk of this.#child.stdio[3] as Readable) {
      said += String(chunk);
      if (said === 'ready\n') return;
    }
    throw new DroverError('BOOT_FAILED', await this.exited);
  }

  async exec(argv: readonly string[], stdin: string | Promise<string> = ''): Promise<ExecResult> {
    const socket = this.#socket('run');
    const timeout = new AbortController();
    const timer = Promise.resolve(stdin).then(() =>
      setTimeout(() => {
        timeout.abort();
      }, EXEC_TIMEOUT_MS),
    );
    try {
      return await runInGuest(socket, argv, stdin, timeout.signal);
    } finally {
      void timer.then(clearTimeout);
    }
  }

  async start(request: ProgramRequest): Promise<RunningProgram> {
    return await Promise.resolve(startInGuest(this.#socket('run'), request));
  }

  memory(): GuestMemory | undefined {
    return this.#spec.cgroup?.memory();
  }

  async openDaemon(): Promise<Duplex> {
    return await connectUnixSocket(this.#socket('nix'));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#child.stdin?.end();
    const timer = setTimeout(() => void this.kill(), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(timer);
  }

  /** drover-namespace ends when the kernel has reported the end of every process in the guest. */
  async kill(): Promise<void> {
    if (!this.#gone) this.#child.kill('SIGTERM');
    await this.exited;
  }

  #socket(name: 'nix' | 'run'): string {
    const { dir, name: id } = this.#spec.setup;
    if (this.#gone) throw guestGone(id);
    return join(dir, name);
  }
}

function outOfMemory(memory: GuestMemory | undefined): string {
  if (memory === undefined || memory.kills === 0) return '';
  return `, after the kernel killed processes in it for memory (limit ${humanBytes(memory.limitBytes)}; see guest.memory)`;
}

/** In words. Process 1 ends as its nix-daemon does, with 128 and the signal's number. */
function howEnded(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal !== null) return `it was killed by ${signal}`;
  const [name] = Object.entries(constants.signals).find(([, number]) => 128 + number === code) ?? [];
  return name === undefined
    ? `it ended with exit status ${code ?? 0}`
    : `its nix-daemon was killed by ${name}`;
}
