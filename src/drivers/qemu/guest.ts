import { rm } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import { SshChannel } from '../../guest/ssh-channel.js';
import type { Child } from '../../lib/child.js';
import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError, errorMessage } from '../../lib/errors.js';
import type { GuestDir } from '../../lib/state-dir.js';
import { lastWords } from '../console-logs.js';
import type { ExecResult, RunningGuest } from '../../guest/driver.js';
import { guestGone } from '../guest-gone.js';
import type { GuestKeys } from '../vm/guest-keys.js';
import { guestMachineArguments } from './arguments.js';
import { Inheritance, inheritMachine, pipeOf, type BareMachine } from './machine.js';
import type { QemuPrograms } from './programs.js';
import { maxOpenFiles } from './descriptor-use.js';
import { quitQemu } from './qmp.js';
import { startVirtiofsd, type SharedStore } from './virtiofsd.js';

/** How long `stop` waits for QEMU's own end, in milliseconds. */
const STOP_TIMEOUT_MS = 2_000;
/** How long the end of a connection may be seen before that of QEMU, in milliseconds. */
const QEMU_END_GRACE_MS = 200;
/** What builds have made since may be wrong: not every program heeds that it cannot look at a file. */
const OUT_OF_DESCRIPTORS =
  'it looked at more files of the shared store than its virtiofsd may have open; raise the limit of open files (ulimit -n, LimitNOFILE=)';
const DAEMON_SOCKET = '/nix/var/nix/daemon-socket/socket';
/** Tells the guest that somebody is at the other end of the port: docs/images.md. */
const PORT_GREETING = 'drover\n';

export interface QemuGuestSpec {
  readonly id: string;
  /** Of no other guest that runs. */
  readonly number: number;
  readonly programs: QemuPrograms;
  readonly machine: BareMachine;
  readonly network: 'host' | 'none';
  /** The names of the disks in it are gone once QEMU has them. */
  readonly dir: GuestDir;
  /** The host's store; shared if there is a virtiofsd. */
  readonly storeDir: string;
  readonly keys: GuestKeys;
  readonly consoleLog: ConsoleLog;
  /** Removes what the guest had on disk. */
  readonly cleanUp: () => Promise<void>;
}

/** A QEMU that has been started, and this side's ends of what it inherited. */
interface Started {
  readonly qemu: Child;
  readonly store: SharedStore | undefined;
  readonly sshPort: Duplex;
  readonly monitor: Duplex;
}

/**
 * One VM: a QEMU, a virtiofsd, and an SSH connection over a virtio-serial port between them and this process. Whichever
 * of the three ends first, the guest has ended, and the others are ended too.
 */
export class QemuGuest implements RunningGuest {
  readonly exited: Promise<string>;
  readonly #spec: QemuGuestSpec;
  readonly #parts: Started;
  #ssh: SshChannel | undefined;
  #maxOpenFiles: number | undefined;
  #gone = false;
  /** Whether it was told to end: then nobody will want to read its console. */
  stopped = false;
  #end: (how: string) => void = () => undefined;

  private constructor(spec: QemuGuestSpec, parts: Started) {
    this.#spec = spec;
    this.#parts = parts;
    const { qemu, store, sshPort, monitor } = parts;
    for (const stream of [qemu.process.stdout, qemu.process.stderr])
      if (stream !== null) spec.consoleLog.follow(stream);
    // Reported by the child's end.
    for (const stream of [sshPort, monitor]) stream.on('error', () => undefined);
    const end = new Promise<string>((resolve) => {
      this.#end = resolve;
    });
    void qemu.exited.then((how) => {
      this.#end(`its QEMU: ${how}`);
    });
    void store?.child.exited.then((how) => this.#endUnlessQemuHas(`its virtiofsd: ${how}`));
    void store?.descriptors.exhausted.then(() => {
      this.#end(OUT_OF_DESCRIPTORS);
    });
    this.exited = end.then((how) => this.#dispose(how));
  }

  /** Starts a guest and waits until it can be spoken to. @throws DroverError; nothing of it is left then */
  static async start(spec: QemuGuestSpec, signal: AbortSignal): Promise<QemuGuest> {
    const guest = new QemuGuest(spec, await startParts(spec, signal));
    try {
      await guest.#connect(signal);
      await guest.#countDescriptors();
      return guest;
    } catch (error) {
      await guest.kill();
      throw error;
    }
  }

  get pid(): number | undefined {
    return this.#parts.qemu.process.pid;
  }

  /** How many files virtiofsd may have open, where it keeps those open that the guest has looked at. */
  get maxOpenFiles(): number | undefined {
    return this.#maxOpenFiles;
  }

  /** The other half is for what a build opens, and looks at besides its inputs. */
  get rememberedFiles(): number | undefined {
    return this.#maxOpenFiles === undefined ? undefined : Math.floor(this.#maxOpenFiles / 2);
  }

  /** virtiofsd has looked at the store's root by now, and found out what its file system can do. */
  async #countDescriptors(): Promise<void> {
    const { store } = this.#parts;
    const pid = store?.child.process.pid;
    if (store?.descriptors.keepsOnePerFile !== true || pid === undefined) return;
    this.#maxOpenFiles = await maxOpenFiles(pid);
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const { sshPort } = this.#parts;
    sshPort.write(PORT_GREETING);
    const { keys } = this.#spec;
    const ended = this.exited.then((how) => {
      throw new DroverError('BOOT_FAILED', how);
    });
    ended.catch(() => undefined);
    const connected = SshChannel.connect({
      stream: sshPort,
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
    await Promise.race([this.#parts.qemu.exited, grace]);
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
    await quitQemu(this.#parts.monitor).catch(() => this.kill());
    await this.exited;
    clearTimeout(timer);
  }

  async kill(): Promise<void> {
    await this.#parts.qemu.kill();
    await this.exited;
  }

  #alive(): SshChannel {
    if (this.#ssh === undefined || this.#gone) {
      throw guestGone(this.#spec.id);
    }
    return this.#ssh;
  }

  #lastWords(): string {
    const last = lastWords(this.#spec.consoleLog.tail(200));
    return last === undefined || this.stopped ? '' : ` (${last})`;
  }

  async #dispose(how: string): Promise<string> {
    this.#gone = true;
    await this.#parts.qemu.kill();
    await this.#parts.store?.child.kill();
    this.#ssh?.destroy();
    // Whatever was noticed first, the guest may have said why.
    const said = this.#lastWords();
    this.#spec.consoleLog.close();
    await this.#spec.cleanUp();
    return `${how}${said}`;
  }
}

/** @throws DroverError, or Node's error for a file that cannot be opened; nothing of the guest is left then */
async function startParts(spec: QemuGuestSpec, signal: AbortSignal): Promise<Started> {
  let store: SharedStore | undefined;
  try {
    store = await startSharing(spec, signal);
    return await startQemu(spec, store);
  } catch (error) {
    await store?.child.kill();
    spec.consoleLog.close();
    await spec.cleanUp();
    throw error;
  }
}

async function startSharing(spec: QemuGuestSpec, signal: AbortSignal): Promise<SharedStore | undefined> {
  const { virtiofsd, setpriv } = spec.programs;
  if (virtiofsd === undefined) return undefined;
  const { dir, storeDir, consoleLog } = spec;
  return await startVirtiofsd({
    program: virtiofsd,
    setpriv,
    socket: dir.virtiofsd,
    directory: storeDir,
    consoleLog,
    signal,
  });
}

async function startQemu(spec: QemuGuestSpec, store: SharedStore | undefined): Promise<Started> {
  const { programs, machine, network, dir, number } = spec;
  await using inherited = new Inheritance();
  const descriptors = {
    store: store === undefined ? undefined : inherited.socket(store.connection),
    configDisk: await inherited.file(dir.configDisk, 'r'),
    scratchDisk: await inherited.file(dir.scratch, 'r+'),
    sshPort: inherited.pipe(),
    monitor: inherited.pipe(),
  };
  const bare = await inheritMachine(inherited, programs, machine);
  // They are gone with QEMU, then, whatever happens to this process: the keys, and what the scratch disk has taken.
  await Promise.all([rm(dir.configDisk), rm(dir.scratch)]);
  const args = guestMachineArguments({ ...bare, ...descriptors, name: dir.path, network });
  const qemu = inherited.start(programs, args, number);
  return {
    qemu,
    store,
    sshPort: pipeOf(qemu.process, descriptors.sshPort),
    monitor: pipeOf(qemu.process, descriptors.monitor),
  };
}
