import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import type { Listings } from '../../guest/stored-listings.js';
import type { ProgramRequest, RunningProgram } from '../../guest/program.js';
import { SshChannel } from '../../guest/ssh-channel.js';
import { Emitter } from '../../lib/emitter.js';
import { DroverError, errorCode, errorMessage } from '../../lib/errors.js';
import { fileTail } from '../../lib/console-log.js';
import type { ExecResult, GuestNotice, RunningGuest } from '../../guest/driver.js';
import type { GuestKeys } from '../vm/guest-files.js';
import { VmLife } from '../vm/life.js';
import type { HelperConfiguration, HelperEvent } from './helper-protocol.js';
import { startHelper, type VzHelper } from './helper.js';
import { connectVsock } from './helper-vsock.js';

/** The guest's vsock ports (docs/images.md). Below 1024, so that only its root can take them. */
const SSH_PORT = 22;
const DAEMON_PORT = 23;
/** Pause between attempts to reach a guest that boots, in milliseconds. */
const RETRY_INTERVAL_MS = 20;
/** Per attempt, because a guest without its vsock driver yet may never answer. In milliseconds. */
const ATTEMPT_TIMEOUT_MS = 1_000;

export interface VzGuestSpec {
  readonly id: string;
  readonly program: string;
  readonly setpriv: string | undefined;
  readonly configuration: HelperConfiguration;
  readonly keys: GuestKeys;
  /** See `RunningGuest`; does not hold for an exact store, which forgets by itself. */
  readonly rememberedFiles: number;
  /** Its machine runs. */
  readonly onStarted: () => void;
  /** Removes what the guest had on disk. */
  readonly cleanUp: () => Promise<void>;
}

/**
 * One VM: a vz-helper, and an SSH connection to the guest's vsock through it. Each stream to the nix-daemon is another
 * vsock connection.
 */
export class VzGuest implements RunningGuest {
  readonly notices = new Emitter<GuestNotice>();
  readonly #spec: VzGuestSpec;
  readonly #helper: VzHelper;
  readonly #life: VmLife;
  /** The step of the boot that has not ended yet, for people. */
  #waitsFor = 'vz-helper has not answered configure';
  /** See `RunningGuest`; set once the guest has said hello. */
  listings: Listings | undefined;
  #networkWarnings: readonly string[] = [];

  private constructor(spec: VzGuestSpec, helper: VzHelper) {
    this.#spec = spec;
    this.#helper = helper;
    helper.events.on((event) => {
      const notice = noticeOf(event);
      if (event.event === 'networkLost' && notice?.kind === 'warning') this.#networkWarnings = [notice.text];
      if (notice !== undefined) this.notices.emit(notice);
    });
    const { id, configuration, cleanUp } = spec;
    this.#life = new VmLife({
      id,
      process: { name: 'vz-helper', exited: helper.exited },
      killAll: () => helper.kill(),
      consoleTail: (lines) => fileTail(configuration.console.path, { lines }),
      cleanUp,
    });
  }

  /**
   * Starts a guest and waits for its sshd.
   * @param signal gives up
   * @throws DroverError; nothing of the guest is left then
   */
  static async start(spec: VzGuestSpec, signal: AbortSignal): Promise<VzGuest> {
    const boot = new AbortController();
    const onAbort = (): void => {
      boot.abort(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      const { program, setpriv } = spec;
      const guest = new VzGuest(spec, await startHelper({ program, setpriv, signal: boot.signal }));
      try {
        await guest.#boot(boot.signal);
        return guest;
      } catch (error) {
        await guest.kill();
        if (!boot.signal.aborted) throw error;
        const why = errorMessage(boot.signal.reason);
        throw new DroverError('BOOT_FAILED', `${why}: ${guest.#waitsFor}`);
      }
    } catch (error) {
      await spec.cleanUp();
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #boot(signal: AbortSignal): Promise<void> {
    const settled = new AbortController();
    try {
      await this.#helper.configure(this.#spec.configuration);
      this.#waitsFor = 'vz-helper has not answered start';
      await this.#helper.start();
      this.#spec.onStarted();
      await this.#life.connected(this.#reach(AbortSignal.any([signal, settled.signal])), signal);
    } finally {
      settled.abort();
    }
  }

  /** Tries until the guest's sshd answers. */
  async #reach(signal: AbortSignal): Promise<SshChannel> {
    this.#waitsFor = `The guest's vsock port ${SSH_PORT} has not answered`;
    for (;;) {
      try {
        return await this.#connect(signal);
      } catch (error) {
        if (signal.aborted || errorCode(error) === 'GUEST_UNTRUSTED') throw error;
        this.#waitsFor = errorMessage(error);
        await delay(RETRY_INTERVAL_MS);
      }
    }
  }

  async #connect(signal: AbortSignal): Promise<SshChannel> {
    const { configuration, keys } = this.#spec;
    const attempt = AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_TIMEOUT_MS)]);
    const stream = await connectVsock(configuration.vsock.path, SSH_PORT, attempt);
    return await SshChannel.connect({
      stream,
      hostKey: keys.host.publicKey,
      clientKey: keys.client.privateKey,
      signal,
    });
  }

  get exited(): Promise<string> {
    return this.#life.exited;
  }

  get stopped(): boolean {
    return this.#life.stopped;
  }

  get rememberedFiles(): number | undefined {
    return this.listings === undefined ? this.#spec.rememberedFiles : undefined;
  }

  get warnings(): readonly string[] {
    return [...this.#helper.warnings, ...this.#networkWarnings];
  }

  async exec(argv: readonly string[], stdin?: string | Promise<string>): Promise<ExecResult> {
    return await this.#life.requireAlive().exec(argv, stdin);
  }

  async start(request: ProgramRequest): Promise<RunningProgram> {
    return await this.#life.requireAlive().start(request);
  }

  async openDaemon(): Promise<Duplex> {
    this.#life.requireAlive();
    return await connectVsock(this.#spec.configuration.vsock.path, DAEMON_PORT);
  }

  /** Nothing in a guest is worth keeping, so it is not shut down first: the helper ends, and the guest with it. */
  async stop(): Promise<void> {
    this.#life.stopped = true;
    await this.#helper.close();
    await this.exited;
  }

  async kill(): Promise<void> {
    await this.#helper.kill();
    await this.exited;
  }
}

function noticeOf(event: HelperEvent): GuestNotice | undefined {
  switch (event.event) {
    case 'sleep':
    case 'wake':
      return { kind: event.event };
    case 'networkLost':
      // Only fixed-output builds need it. The framework reports each failed start of the interface, the first one too.
      return { kind: 'warning', text: `guest has no network: ${event.error.text}` };
    case 'warning':
      return { kind: 'warning', text: event.error.text };
    case 'started':
    case 'stopped':
    case 'crashed':
      return undefined;
  }
}
