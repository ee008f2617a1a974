import { setTimeout as delay } from 'node:timers/promises';

import type { SshChannel } from '../../guest/ssh-channel.js';
import { DroverError, errorMessage } from '../../lib/errors.js';
import { guestGone } from '../../guest/driver.js';

/** Time by which a guest's process may outlive its connections, in milliseconds. */
const PROCESS_END_GRACE_MS = 200;
/** Lines at the end of a console in which the reason of a guest's end is looked for. */
const LAST_LINES = 200;

export interface VmLifeSpec {
  readonly id: string;
  /** The process that is the VM: QEMU, or vz-helper. */
  readonly process: { readonly name: string; readonly exited: Promise<string> };
  /** Ends every process of the guest, and waits for that. */
  readonly killAll: () => Promise<void>;
  /** The last `lines` lines of the console. */
  readonly consoleTail: (lines: number) => string | Promise<string>;
  /** Removes the guest's files from disk. Runs last. */
  readonly cleanUp: () => Promise<void>;
}

/**
 * One life of a VM, from its process to its end. The VM has several parts (processes, an SSH connection). When one of
 * them ends, the guest has ended, and the others are ended too.
 */
export class VmLife {
  /** Settles, never rejects, when nothing of the guest is left: how it ended, for people. */
  readonly exited: Promise<string>;
  /** Whether Drover has asked for the end: the console is not worth keeping then. */
  stopped = false;
  readonly #spec: VmLifeSpec;
  #ssh: SshChannel | undefined;
  #gone = false;
  #end: (how: string) => void = () => undefined;

  constructor(spec: VmLifeSpec) {
    this.#spec = spec;
    const ended = new Promise<string>((resolve) => {
      this.#end = resolve;
    });
    void spec.process.exited.then((how) => {
      this.#end(`its ${spec.process.name}: ${how}`);
    });
    this.exited = ended.then((how) => this.#dispose(how));
  }

  /**
   * Waits for the SSH connection of a guest that boots; from then on the guest is alive.
   * @param signal gives up; `connecting` must heed it
   * @throws DroverError `BOOT_FAILED` when there is no connection or the guest ends first; or the signal's reason
   */
  async connected(connecting: Promise<SshChannel>, signal: AbortSignal): Promise<void> {
    const ended = this.exited.then((how) => {
      throw new DroverError('BOOT_FAILED', how);
    });
    ended.catch(() => undefined);
    const connection = connecting.catch(async (error: unknown) => {
      signal.throwIfAborted();
      await this.endUnlessProcessHas(errorMessage(error));
      return await ended;
    });
    connection.catch(() => undefined);
    const ssh = (this.#ssh = await Promise.race([connection, ended]));
    void ssh.closed.then((how) => this.endUnlessProcessHas(how));
  }

  /** The SSH connection. @throws DroverError `GUEST_GONE` before `connected` and after the end */
  requireAlive(): SshChannel {
    if (this.#ssh === undefined || this.#gone) throw guestGone(this.#spec.id);
    return this.#ssh;
  }

  /** Ends the guest. @param how for people */
  end(how: string): void {
    this.#end(how);
  }

  /** As `end`; but the end of the process, if it comes soon, explains more than the end of its connections. */
  async endUnlessProcessHas(how: string): Promise<void> {
    const timer = new AbortController();
    const grace = delay(PROCESS_END_GRACE_MS, undefined, { signal: timer.signal }).catch(() => undefined);
    await Promise.race([this.#spec.process.exited, grace]);
    timer.abort();
    this.#end(how);
  }

  async #dispose(how: string): Promise<string> {
    this.#gone = true;
    const { killAll, consoleTail, cleanUp } = this.#spec;
    await killAll();
    this.#ssh?.destroy();
    // Read only now: the guest may have printed why it ends after the first sign of its end.
    const last = this.stopped ? undefined : lastWords(await consoleTail(LAST_LINES));
    await cleanUp();
    return last === undefined ? how : `${how} (${last})`;
  }
}

/**
 * The line in which a guest explains its end, if there is one: a kernel panic, or a message of its init.
 * @param tail of the console
 */
function lastWords(tail: string): string | undefined {
  return tail
    .split('\n')
    .filter((line) => /Kernel panic|^drover: (?!guest is up|kernel is up)/.test(line))
    .at(-1)
    ?.trim();
}
