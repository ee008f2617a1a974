import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { execa } from 'execa';

import { startDrover, type Drover, type StartOptions } from './drover.js';

let count = 0;

/** A machine of its own, as far as Nix and Drover can tell: a network namespace with an address, and an empty store. */
export class Machine implements AsyncDisposable {
  readonly address: string;
  readonly #dir: string;
  readonly #namespace: string;
  readonly #link: string;

  private constructor(dir: string, number: number) {
    this.#dir = dir;
    this.#namespace = `drover-${process.pid}-${number}`;
    this.#link = `dr${process.pid % 100_000}-${number}`;
    this.address = `10.231.${number}.2`;
  }

  static async make(): Promise<Machine> {
    const machine = new Machine(await mkdtemp('/tmp/ma-'), ++count);
    await machine.#open();
    return machine;
  }

  /** Starts a supervisor there. Its ssh door listens on all addresses. */
  async startDrover(options: StartOptions = {}): Promise<Drover> {
    const script = 'mount --bind "$0" /nix && exec "$@"';
    return await startDrover({
      ...options,
      stateDir: join(this.#dir, 's'),
      through: [
        ...['ip', 'netns', 'exec', this.#namespace],
        ...['unshare', '--mount', '/bin/sh', '-c', script, join(this.#dir, 'nix')],
      ],
      ssh: { listen: '0.0.0.0:31122', ...options.ssh },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await execa('ip', ['netns', 'delete', this.#namespace]);
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #open(): Promise<void> {
    await mkdir(join(this.#dir, 'nix/store'), { recursive: true });
    await mkdir(join(this.#dir, 'nix/var/nix'), { recursive: true });
    const host = this.address.replace(/2$/, '1');
    await execa('ip', ['netns', 'add', this.#namespace]);
    const veth = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', this.#namespace];
    await execa('ip', ['link', 'add', this.#link, ...veth]);
    await execa('ip', ['address', 'add', `${host}/30`, 'dev', this.#link]);
    await execa('ip', ['link', 'set', this.#link, 'up']);
    await execa('ip', ['-n', this.#namespace, 'address', 'add', `${this.address}/30`, 'dev', 'eth0']);
    await execa('ip', ['-n', this.#namespace, 'link', 'set', 'eth0', 'up']);
    await execa('ip', ['-n', this.#namespace, 'link', 'set', 'lo', 'up']);
  }
}
