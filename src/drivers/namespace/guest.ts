import type { ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import type { Duplex, Readable } from 'node:stream';

import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError } from '../../lib/errors.js';
import { run, startProgram } from '../../lib/process.js';
import { connectUnixSocket } from '../../lib/unix-socket.js';
import type { ExecResult, RunningGuest } from '../../guest/driver.js';
import { guestGone } from '../guest-gone.js';
import type { HostPrograms } from './programs.js';

/** Time that `stop` gives the guest to end by itself, in milliseconds. */
const STOP_TIMEOUT_MS = 2_000;

/**
 * Time limit for a verb of drover-guest once it has its input, in milliseconds: registering a million paths
 * takes less.
 */
const EXEC_TIMEOUT_MS = 60_000;

/** Where the guest's nix-daemon listens, in the guest. */
const DAEMON_SOCKET = 'nix/var/nix/daemon-socket/socket';

/** All that a guest's programs may need; PATH is looked up inside. */
const GUEST_ENV = { PATH: '/usr/bin:/bin:/sbin', HOME: '/root' };

/**
 * Capabilities that neither Nix nor builds need and that would reach the host: its clock, modules and raw
 * devices.
 */
const DROPPED_CAPABILITIES = [
  'sys_time',
  'sys_module',
  'sys_rawio',
  'sys_boot',
  'mac_admin',
  'mac_override',
  'syslog',
  'wake_alarm',
  'block_suspend',
]
  .map((name) => `-${name}`)
  .join(',');

export interface NamespaceGuestSpec {
  readonly id: string;
  readonly programs: HostPrograms;
  /** The root that all guests share. */
  readonly image: string;
  /** This guest's own directory: `root` to mount on, `etc` with its configuration. */
  readonly dir: string;
  /** The host's store. */
  readonly storeDir: string;
  readonly stage1: string;
  readonly scratchSizeBytes: number;
  readonly network: 'host' | 'none';
  readonly consoleLog: ConsoleLog;
}

/**
 * A set of namespaces and the processes in it. The chain is chrt → setpriv → unshare → process 1 of the guest, each of
 * which is killed by the kernel when its parent dies; process 1 also ends when its standard input does.
 */
export class NamespaceGuest implements RunningGuest {
  readonly #spec: NamespaceGuestSpec;
  readonly #child: ChildProcess;
  readonly exited: Promise<string>;
  #pid: number | undefined;
  #gone = false;
  /** Set once the guest was told to end: its console is then of no interest. */
  stopped = false;

  private constructor(spec: NamespaceGuestSpec, child: ChildProcess) {
    this.#spec = spec;
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) if (stream !== null) spec.consoleLog.follow(stream);
    child.stdin?.on('error', () => undefined);
    this.exited = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        this.#gone = true;
        spec.consoleLog.close();
        resolve(howEnded(code, signal, spec.consoleLog.tail(1)));
      });
    });
  }

  /** Starts a guest and waits for its daemon. @throws DroverError `BOOT_FAILED`; nothing of it runs then */
  static async start(spec: NamespaceGuestSpec, signal: AbortSignal): Promise<NamespaceGuest> {
    const guest = new NamespaceGuest(spec, await startChain(spec));
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
    const reports = this.#child.stdio[3] as Readable;
    let said = '';
    for await (const chunk of reports) {
      said += String(chunk);
      this.#pid ??= Number(/^pid (\d+)$/m.exec(said)?.[1]) || undefined;
      if (/^ready$/m.test(said) && this.#pid !== undefined) return;
    }
    throw new DroverError('BOOT_FAILED', await this.exited);
  }

  async exec(argv: readonly string[], stdin: string | Promise<string> = ''): Promise<ExecResult> {
    const { programs, network } = this.#spec;
    const namespaces = ['--mount', '--pid', '--ipc', '--uts', ...(network === 'none' ? ['--net'] : [])];
    const timeout = new AbortController();
    const timer = Promise.resolve(stdin).then(() =>
      setTimeout(() => {
        timeout.abort();
      }, EXEC_TIMEOUT_MS),
    );
    try {
      return await run(
        programs.setpriv,
        [
          `--bounding-set=${DROPPED_CAPABILITIES}`,
          programs.nsenter,
          '--target',
          String(this.#alive()),
          ...namespaces,
          '--',
          ...argv,
        ],
        { input: stdin, env: GUEST_ENV, signal: timeout.signal },
      );
    } finally {
      void timer.then(clearTimeout);
    }
  }

  /** Through the guest's root as the host's /proc shows it: there is no socket on the host that others could find. */
  async openDaemon(): Promise<Duplex> {
    const path = `/proc/${this.#alive()}/root/${DAEMON_SOCKET}`;
    return await connectUnixSocket(path);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.#child.stdin?.end();
    const timer = setTimeout(() => void this.kill(), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(timer);
  }

  /** The kernel reports the death of process 1 only when every other process in its namespace is dead. */
  async kill(): Promise<void> {
    if (!this.#gone) {
      try {
        process.kill(this.#pid ?? this.#child.pid ?? 0, 'SIGKILL');
      } catch {
        // It has just ended by itself.
      }
    }
    await this.exited;
  }

  #alive(): number {
    if (this.#pid === undefined || this.#gone) {
      throw guestGone(this.#spec.id);
    }
    return this.#pid;
  }
}

async function startChain(spec: NamespaceGuestSpec): Promise<ChildProcess> {
  const { programs, image, dir, storeDir, stage1, scratchSizeBytes, network, id } = spec;
  return await startProgram(
    programs.chrt,
    [
      // Builds are batch work: they must not delay Nix and the supervisor, which start the next ones.
      ...['--batch', '0', programs.setpriv],
      ...['--pdeathsig', 'KILL', `--bounding-set=${DROPPED_CAPABILITIES}`, programs.unshare],
      ...['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child=KILL', '--ipc', '--uts'],
      ...(network === 'none' ? ['--net'] : []),
      ...[`${image}/bin/busybox`, 'sh', stage1, image, dir, storeDir, String(scratchSizeBytes), network, id],
    ],
    // Uses the image's tools even before it is the root: NixOS has none in /bin, and not every busybox
    // shell finds its own. A separate session: Ctrl-C at the supervisor's terminal is for the supervisor.
    {
      env: { ...GUEST_ENV, PATH: `${image}/bin:${GUEST_ENV.PATH}` },
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    },
  );
}

/**
 * In words. unshare ends as the guest's process 1 does, but before util-linux 2.39 it cannot end itself by SIGKILL, and
 * says only that; and process 1 ends as its nix-daemon does, with 128 and the signal's number.
 */
function howEnded(code: number | null, signal: NodeJS.Signals | null, lastLine: string): string {
  if (signal !== null) return `it was killed by ${signal}`;
  if (code === 1 && lastLine.startsWith('unshare: sigprocmask unblock failed'))
    return 'it was killed by SIGKILL';
  const [name] = Object.entries(constants.signals).find(([, number]) => 128 + number === code) ?? [];
  return name === undefined
    ? `it ended with exit status ${code ?? 0}`
    : `its nix-daemon was killed by ${name}`;
}
