import type { Duplex } from 'node:stream';

import type { Listings } from '../../guest/stored-listings.js';
import type { ProgramRequest, RunningProgram } from '../../guest/program.js';
import { SshChannel } from '../../guest/ssh-channel.js';
import type { ExecResult, RunningGuest } from '../../guest/driver.js';
import type { GuestKeys } from '../vm/guest-files.js';
import { VmLife } from '../vm/life.js';
import { maxOpenFiles } from './descriptor-use.js';
import { startParts, type PartsSpec, type Started } from './parts.js';

/** A guest that ran out of them is ended, because a build that ignores the error may produce a wrong output. */
export const OUT_OF_DESCRIPTORS =
  'it looked at more files of the shared store than its virtiofsd may have open; raise the limit of open files (ulimit -n, LimitNOFILE=)';
const DAEMON_SOCKET = '/nix/var/nix/daemon-socket/socket';
/** Tells the guest that the supervisor listens at the other end of the port: docs/images.md. */
const PORT_GREETING = 'drover\n';

export interface QemuGuestSpec extends PartsSpec {
  readonly id: string;
  readonly keys: GuestKeys;
  /** Its QEMU runs. */
  readonly onStarted: () => void;
}

/** One VM: a QEMU, a virtiofsd, and an SSH connection between them and this process over a virtio-serial port. */
export class QemuGuest implements RunningGuest {
  readonly #parts: Started;
  readonly #life: VmLife;
  /** See `RunningGuest`; set once the guest has said hello. */
  listings: Listings | undefined;
  #maxOpenFiles: number | undefined;

  private constructor({ id, consoleLog, cleanUp }: QemuGuestSpec, parts: Started) {
    this.#parts = parts;
    const { qemu, store, sshPort } = parts;
    for (const stream of [qemu.process.stdout, qemu.process.stderr])
      if (stream !== null) consoleLog.follow(stream);
    // The end of the child reports it.
    sshPort.on('error', () => undefined);
    this.#life = new VmLife({
      id,
      process: { name: 'QEMU', exited: qemu.exited },
      killAll: async () => {
        await qemu.kill();
        await store?.child.kill();
      },
      consoleTail: (lines) => consoleLog.tail(lines),
      cleanUp: async () => {
        consoleLog.close();
        await cleanUp();
      },
    });
    void store?.child.exited.then((how) => this.#life.endUnlessProcessHas(`its virtiofsd: ${how}`));
    void store?.descriptors.exhausted.then(() => {
      this.#life.end(OUT_OF_DESCRIPTORS);
    });
  }

  /** Starts a guest and waits for its sshd. @throws DroverError; nothing of the guest is left then */
  static async start(spec: QemuGuestSpec, signal: AbortSignal): Promise<QemuGuest> {
    const guest = new QemuGuest(spec, await startParts(spec, signal));
    spec.onStarted();
    try {
      await guest.#life.connected(guest.#connect(spec.keys, signal), signal);
      await guest.#countDescriptors();
      return guest;
    } catch (error) {
      await guest.kill();
      throw error;
    }
  }

  get exited(): Promise<string> {
    return this.#life.exited;
  }

  get stopped(): boolean {
    return this.#life.stopped;
  }

  get pid(): number | undefined {
    return this.#parts.qemu.process.pid;
  }

  /** Limit of open files of a virtiofsd that keeps one open per file the guest has looked up; otherwise undefined. */
  get maxOpenFiles(): number | undefined {
    return this.#maxOpenFiles;
  }

  /** Half of the limit; the rest is for files that builds open, and look up besides their inputs. */
  get rememberedFiles(): number | undefined {
    // An exact store looks up no more than it reads, and forgets by itself.
    if (this.listings !== undefined || this.#maxOpenFiles === undefined) return undefined;
    return Math.floor(this.#maxOpenFiles / 2);
  }

  /** By now virtiofsd has looked at the store's root, and logged what its file system supports. */
  async #countDescriptors(): Promise<void> {
    const { store } = this.#parts;
    const pid = store?.child.process.pid;
    if (store?.descriptors.keepsOnePerFile !== true || pid === undefined) return;
    this.#maxOpenFiles = await maxOpenFiles(pid);
  }

  async #connect({ host, client }: GuestKeys, signal: AbortSignal): Promise<SshChannel> {
    const { sshPort: stream } = this.#parts;
    stream.write(PORT_GREETING);
    return await SshChannel.connect({
      stream,
      hostKey: host.publicKey,
      clientKey: client.privateKey,
      signal,
    });
  }

  async exec(argv: readonly string[], stdin?: string | Promise<string>): Promise<ExecResult> {
    return await this.#life.requireAlive().exec(argv, stdin);
  }

  async start(request: ProgramRequest): Promise<RunningProgram> {
    return await this.#life.requireAlive().start(request);
  }

  async openDaemon(): Promise<Duplex> {
    return await this.#life.requireAlive().openSocket(DAEMON_SOCKET);
  }

  /** Nothing in a guest is worth keeping, so neither the guest nor QEMU is asked to shut down. */
  async stop(): Promise<void> {
    this.#life.stopped = true;
    await this.kill();
  }

  async kill(): Promise<void> {
    await this.#parts.qemu.kill();
    await this.exited;
  }
}
