import type { Socket } from 'node:net';

import { OOM_SCORE } from '../../lib/process.js';
import { startChild, type Child } from '../../lib/child.js';
import { DroverError } from '../../lib/errors.js';
import type { UserIds } from '../../lib/native.js';
import { printableLines } from '../../lib/printable.js';
import { CONTROL_FD, MAX_MESSAGE_BYTES, type ToDoor } from './messages.js';
import { readLines } from './lines.js';
import { parseFromDoor, type FromDoor } from './from-door.js';

/** Bytes of the process's standard error that are kept, to tell why it ended. */
const MAX_STDERR_BYTES = 4096;

export interface DoorProcessOptions {
  readonly program: string;
  readonly dir: string;
  readonly user: UserIds;
  /** Descriptor of the listening socket. */
  readonly listener: number;
  readonly onMessage: (message: FromDoor) => void;
}

/** One process of the ssh door, as the supervisor sees it. */
export class DoorProcess {
  /**
   * Settles when it accepts connections.
   * @throws DroverError `SSH_DOOR_FAILED` if it ends before
   */
  readonly ready: Promise<void>;
  /** Settles with the reason once it has ended. */
  readonly exited: Promise<string>;
  readonly #child: Child;
  readonly #control: Socket;
  #violation: string | undefined;

  /** @throws DroverError as `startProgram` */
  static async start(options: DoorProcessOptions): Promise<DoorProcess> {
    const { program, dir, user, listener, onMessage } = options;
    const args = [program, String(user.uid), String(user.gid)];
    const stdio = ['ignore', 'ignore', 'pipe', 'pipe', listener] as const;
    const child = await startChild(undefined, process.execPath, args, [...stdio], {
      cwd: dir,
      env: {},
      oomScore: OOM_SCORE.client,
    });
    return new DoorProcess(child, onMessage);
  }

  private constructor(running: Child, onMessage: DoorProcessOptions['onMessage']) {
    this.#child = running;
    const { process: child } = this.#child;
    let stderr = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      if (stderr.length < MAX_STDERR_BYTES) stderr += chunk.toString();
    });
    let onReady: () => void = () => undefined;
    const ready = new Promise<void>((resolve) => {
      onReady = resolve;
    });
    this.#control = child.stdio[CONTROL_FD] as Socket;
    this.#control.on('error', () => undefined);
    readLines(this.#control, MAX_MESSAGE_BYTES, {
      onLine: (line) => {
        const message = parseFromDoor(line);
        if (message === undefined) this.#reject('it sent something that is not a message');
        else if (message.type === 'ready') onReady();
        else onMessage(message);
      },
      onTooLong: () => {
        this.#reject('it sent a message that is too long');
      },
    });
    this.exited = this.#child.exited.then((end) => {
      const said = printableLines(stderr.slice(0, MAX_STDERR_BYTES)).trim();
      return [this.#violation ?? end, ...(said === '' ? [] : [said])].join(': ');
    });
    this.ready = Promise.race([ready, this.exited.then(failed)]);
    // Only the first process of a door is waited for.
    this.ready.catch(() => undefined);
  }

  get pid(): number | undefined {
    return this.#child.process.pid;
  }

  send(message: ToDoor): void {
    if (this.#control.writable) this.#control.write(`${JSON.stringify(message)}\n`);
  }

  async kill(): Promise<void> {
    await this.#child.kill();
  }

  #reject(violation: string): void {
    this.#violation ??= violation;
    void this.kill();
  }
}

function failed(reason: string): never {
  throw new DroverError('SSH_DOOR_FAILED', `The process of the ssh door cannot start: ${reason}`, {
    hint: 'As root it switches to the user `drover-ssh` or `nobody`; in a container, that uid must be mapped.',
  });
}
