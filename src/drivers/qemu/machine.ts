import type { ChildProcess } from 'node:child_process';
import { closeSync, open } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { promisify } from 'node:util';

import { startChild, type Child } from '../../lib/child.js';
import { DroverError } from '../../lib/errors.js';
import type { Architecture } from '../vm/image.js';
import type { Accelerator, MachineSpec } from './arguments.js';
import { setprivForQemu, type QemuPrograms } from './programs.js';

/** Descriptors after standard input, output and error. */
const FIRST_DESCRIPTOR = 3;
const READABLE_BY_ALL = 0o004;
const openFile = promisify<string, string, number>(open);

/**
 * Descriptors that a QEMU inherits. It opens none of a guest's files itself, so it needs no permission to.
 * Dispose of this once QEMU has started: that closes what was opened here. It waits for nothing, since the words of a
 * QEMU that ends meanwhile would be lost.
 */
export class Inheritance implements Disposable {
  readonly #stdio: (number | 'pipe' | Socket)[] = [];
  readonly #files: number[] = [];
  readonly #sockets: Socket[] = [];

  /** @returns the descriptor that it is for QEMU, as for all that follow */
  async file(path: string, flags: 'r' | 'r+'): Promise<number> {
    const file = await openFile(path, flags);
    this.#files.push(file);
    return this.#add(file);
  }

  /** One end of a socket pair; the other one is the child's `stdio`. */
  pipe(): number {
    return this.#add('pipe');
  }

  socket(socket: Socket): number {
    this.#sockets.push(socket);
    return this.#add(socket);
  }

  #add(what: number | 'pipe' | Socket): number {
    return FIRST_DESCRIPTOR - 1 + this.#stdio.push(what);
  }

  /**
   * @param number of the user that it is to run as: another one for each guest
   * @param before words before the whole command
   * @param stdin where it reads what is typed on the console
   */
  async start(
    programs: QemuPrograms,
    args: readonly string[],
    number: number,
    before: readonly string[] = [],
    stdin: 'ignore' | 'pipe' = 'ignore',
  ): Promise<Child> {
    const stdio = [stdin, 'pipe', 'pipe', ...this.#stdio] as const;
    const [first, ...rest] = [...before, ...(setprivForQemu(programs, number) ?? [])];
    const command = first === undefined ? undefined : ([first, ...rest] as const);
    return await startChild(command, programs.qemu, args, [...stdio]);
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const file of this.#files) closeSync(file);
  }
}

/** This side's end of a pipe. */
export function pipeOf(child: ChildProcess, descriptor: number): Duplex {
  return child.stdio[descriptor] as Duplex;
}

export interface BareMachine {
  readonly image: { readonly architecture: Architecture; readonly kernel: string; readonly initrd: string };
  readonly accelerator: Accelerator;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly commandLine: string;
}

/**
 * Checks files that a QEMU running as another user opens itself.
 * @throws DroverError `IMAGE_UNUSABLE`
 */
export async function requireReadable(
  programs: QemuPrograms,
  { kernel, initrd }: BareMachine['image'],
): Promise<void> {
  if (!programs.ownUser) return;
  for (const path of [kernel, initrd]) {
    const { mode } = await stat(path);
    if ((mode & READABLE_BY_ALL) !== 0) continue;
    throw new DroverError(
      'IMAGE_UNUSABLE',
      `The file ${path} of the guest image can be read by its owner only (mode 0${(mode & 0o7777).toString(8)}), and QEMU runs as a user without rights`,
      { hint: `chmod a+r ${path}`, context: { file: path } },
    );
  }
}

/** Opens what any machine needs. @throws Node's error for a file that cannot be opened */
export async function inheritMachine(
  inherited: Inheritance,
  programs: QemuPrograms,
  { image, ...machine }: BareMachine,
): Promise<MachineSpec> {
  const { parallelTcg, seccomp } = programs;
  return {
    ...machine,
    architecture: image.architecture,
    parallelTcg,
    seccomp,
    // QEMU takes paths for these: it may read the files, though not the directories on the way to them.
    kernel: `/dev/fd/${await inherited.file(image.kernel, 'r')}`,
    initrd: `/dev/fd/${await inherited.file(image.initrd, 'r')}`,
    kvm:
      machine.accelerator === 'kvm' && programs.inheritsKvm
        ? await inherited.file('/dev/kvm', 'r+')
        : undefined,
  };
}
