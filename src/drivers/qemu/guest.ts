import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import { SshChannel } from '../../guest/ssh-channel.js';
import { startChild, type Child } from '../../lib/child.js';
import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError, errorMessage } from '../../lib/errors.js';
import type { ExecResult, RunningGuest } from '../driver.js';
import type { GuestKeys } from '../guest-keys.js';
import { guestMachineArguments, SSH_FD, type GuestMachineSpec } from './arguments.js';
import { quitQemu } from './qmp.js';
import { startVirtiofsd } from './virtiofsd.js';

/** How long `stop` waits for QEMU's own end, in milliseconds. */
const STOP_TIMEOUT_MS = 2_000;
/** How long the end of a connection may be seen before that of QEMU, in milliseconds. */
const QEMU_END_GRACE_MS = 200;
const DAEMON_SOCKET = '/nix/var/nix/daemon-socket/socket';
/** Tells the guest that somebody is at the other end of the port: docs/images.md. */
const PORT_GREETING = 'drover\n';

export interface QemuGuestSpec {
  readonly id: string;
  readonly qemu: string;
  readonly setpriv: string | undefined;
  readonly machine: GuestMachineSpec;
  /** Undefined: the host's store is not shared. */
  readonly virtiofsd: { readonly program: string; readonly directory: string } | undefined;
  readonly keys: GuestKeys;
  readonly consoleLog: ConsoleLog;
  /** Removes what the guest had on disk. */
  readonly cleanUp: () => Promise<void>;
}

/**
 * One VM: a QEMU, a virtiofsd, and an SSH connection over a virtio-serial port between them and this process. Whichever
 * of the three ends first, the guest has ended, and the others are ended too.
 */
export class QemuGuest implements RunningGuest {
  readonly exited: Promise<string>;
  readonly #spec: QemuGuestSpec;
  readonly #qemu: Child;
  readonly #virtiofsd: Child | undefined;
  #ssh: SshChannel | undefined;
  #gone = false;
  /** Whether it was told to end: then nobody will want to read its console. */
  stopped = false;
  #end: (how: string) => void = () => undefined;

  private constructor(spec: QemuGuestSpec, virtiofsd: Child | undefined) {
    this.#spec = spec;
    this.#virtiofsd = virtiofsd;
    this.#qemu = startChild(spec.setpriv, spec.qemu, guestMachineArguments(spec.machine), [
      'ignore',
      'pipe',
      'pipe',
      'pipe',
    ]);
    for (const stream of [this.#qemu.process.stdout, this.#qemu.process.stderr])
      if (stream !== null) spec.consoleLog.follow(stream);
    // Reported by the child's end.
    this.#port().on('error', () => undefined);
    const end = new Promise<string>((resolve) => {
      this.#end = resolve;
    });
    void this.#qemu.exited.then((how) => {
      this.#end(`its QEMU: ${how}${this.#lastWords()}`);
    });
    void virtiofsd?.exited.then((how) => this.#endUnlessQemuHas(`its virtiofsd: ${how}`));
    this.exited = end.then((how) => this.#dispose(how));
  }

  /** Starts a guest and waits until it can be spoken to. @throws DroverError; nothing of it is left then */
  static async start(spec: QemuGuestSpec, signal: AbortSignal): Promise<QemuGuest> {
    const virtiofsd = await startSharing(spec, signal);
    const guest = new QemuGuest(spec, virtiofsd);
    try {
      await guest.#connect(signal);
      return guest;
    } catch (error) {
      await guest.kill();
      throw error;
    }
  }

  get pid(): number | undefined {
    return this.#qemu.process.pid;
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const port = this.#port();
    port.write(PORT_GREETING);
    const { keys } = this.#spec;
    const ended = this.exited.then((how) => {
      throw new DroverError('BOOT_FAILED', how);
    });
    ended.catch(() => undefined);
    const connected = SshChannel.connect({
      stream: port,
      hostKey: keys.host.publicKey,
      clientKey: keys.client.privateKey,
      signal,
    }).catch(async (error: unknown) => {
      signal.throwIfAborted();
      await this.#endUnlessQemuHas(errorMessage(error));
      return await ended;
    });
    const ssh = (this.#ssh = await Promise.race([connected, ended]));
    void ssh.closed.then((how) => this.#endUnlessQemuHas(how));
  }

  /** QEMU's end is that of its connections too, and says more than they do. */
  async #endUnlessQemuHas(how: string): Promise<void> {
    const timer = new AbortController();
    const grace = delay(QEMU_END_GRACE_MS, undefined, { signal: timer.signal }).catch(() => undefined);
    await Promise.race([this.#qemu.exited, grace]);
    timer.abort();
    this.#end(how);
  }

  async exec(argv: readonly string[], stdin?: string | Promise<string>): Promise<ExecResult> {
    return await this.#alive().exec(argv, stdin);
  }

  async openDaemon(): Promise<Duplex> {
    return await this.#alive().openSocket(DAEMON_SOCKET);
  }

  /** Nothing in a guest is worth keeping, so it is not shut down first: QEMU is told to end, and does in milliseconds. */
  async stop(): Promise<void> {
    this.stopped = true;
    const timer = setTimeout(() => void this.kill(), STOP_TIMEOUT_MS);
    await quitQemu(this.#spec.machine.qmpSocket).catch(() => this.kill());
    await this.exited;
    clearTimeout(timer);
  }

  async kill(): Promise<void> {
    await this.#qemu.kill();
    await this.exited;
  }

  #port(): Duplex {
    return this.#qemu.process.stdio[SSH_FD] as Duplex;
  }

  #alive(): SshChannel {
    if (this.#ssh === undefined || this.#gone) {
      throw new DroverError('GUEST_GONE', `The guest ${this.#spec.id} is gone`, {
        context: { guest: this.#spec.id },
      });
    }
    return this.#ssh;
  }

  /** A guest that ends by itself has said why: its kernel in a panic, its init when it powers off. */
  #lastWords(): string {
    const last = this.#spec.consoleLog
      .tail(200)
      .split('\n')
      .filter((line) => /Kernel panic|^drover: (?!guest is up|kernel is up)/.test(line))
      .at(-1);
    return last === undefined || this.stopped ? '' : ` (${last.trim()})`;
  }

  async #dispose(how: string): Promise<string> {
    this.#gone = true;
    await this.#qemu.kill();
    await this.#virtiofsd?.kill();
    this.#ssh?.destroy();
    this.#spec.consoleLog.close();
    await this.#spec.cleanUp();
    return how;
  }
}

async function startSharing(spec: QemuGuestSpec, signal: AbortSignal): Promise<Child | undefined> {
  const { virtiofsd, machine, setpriv, consoleLog, cleanUp } = spec;
  if (virtiofsd === undefined || machine.virtiofsdSocket === undefined) return undefined;
  try {
    return await startVirtiofsd({
      ...virtiofsd,
      setpriv,
      socket: machine.virtiofsdSocket,
      consoleLog,
      signal,
    });
  } catch (error) {
    consoleLog.close();
    await cleanUp();
    throw error;
  }
}
