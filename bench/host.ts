import { appendFile, copyFile, mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { runProgram } from './process.js';

export interface HostOptions {
  /** Directory of the Nix programs. */
  readonly nix: string;
  /** A file of Nix expressions. */
  readonly expressions: string;
  /** Nix system of the builds. */
  readonly system: string;
  /** A static busybox for that system. */
  readonly busybox: string;
}

/** Shared by all contenders: a temporary directory, a Nix, and the host's store. */
export class Host {
  readonly dir: string;
  readonly nix: string;
  /** For clients; a contender adds its NIX_CONF_DIR. */
  readonly env: NodeJS.ProcessEnv;
  /** A store path with bin/busybox. */
  busybox = '';
  readonly #expressions: string;
  readonly #system: string;
  #nonce = 0;

  private constructor(dir: string, { nix, expressions, system }: HostOptions) {
    this.dir = dir;
    this.nix = nix;
    this.#expressions = expressions;
    this.#system = system;
    this.env = {
      PATH: `${nix}:${process.env['PATH'] ?? ''}`,
      HOME: join(dir, 'home'),
      NIX_CONF_DIR: join(dir, 'host'),
      LANG: 'C',
    };
  }

  static async create(dir: string, options: HostOptions): Promise<Host> {
    const host = new Host(dir, options);
    await mkdir(join(dir, 'home'), { recursive: true });
    await host.writeNixConf('host', []);
    const busybox = join(dir, 'drover-bench-busybox');
    await mkdir(join(busybox, 'bin'), { recursive: true });
    await copyFile(options.busybox, join(busybox, 'bin/busybox'));
    host.busybox = await host.add(busybox);
    return host;
  }

  /** Writes the common settings; returns the directory for NIX_CONF_DIR. */
  async writeNixConf(name: string, lines: readonly string[]): Promise<string> {
    const common = [
      'build-users-group = nixbld',
      'sandbox = true',
      'sandbox-fallback = false',
      'sandbox-paths = /bin/sh=/bin/busybox',
      'substituters =',
      'cores = 0',
    ];
    await mkdir(join(this.dir, name), { recursive: true });
    await writeFile(join(this.dir, name, 'nix.conf'), [...common, ...lines, ''].join('\n'));
    return join(this.dir, name);
  }

  /** A number unique among derivations. */
  nonce(): string {
    return `${process.pid}-${Date.now()}-${(this.#nonce += 1)}`;
  }

  /** Adds a file or directory to the host's store; it is deleted at the end. */
  async add(path: string): Promise<string> {
    const added = (await runProgram(join(this.nix, 'nix-store'), ['--add', path], this.env)).trim();
    await this.#own([added]);
    return added;
  }

  /** A derivation that has never been built. */
  async instantiate(attribute: string, args: Readonly<Record<string, string>> = {}): Promise<string> {
    const [derivation = ''] = await this.instantiateAll(attribute, args);
    return derivation;
  }

  /** The derivations of an attribute, in the order of its list; none has ever been built. */
  async instantiateAll(attribute: string, args: Readonly<Record<string, string>> = {}): Promise<string[]> {
    const all = { system: this.#system, busybox: this.busybox, nonce: this.nonce(), ...args };
    const argv = Object.entries(all).flatMap(([name, value]) =>
      /^\d+$/.test(value) && name === 'leaves' ? ['--arg', name, value] : ['--argstr', name, value],
    );
    const stdout = await runProgram(
      join(this.nix, 'nix-instantiate'),
      [this.#expressions, '--attr', attribute, ...argv],
      this.env,
    );
    const wanted = stdout.trim().split('\n');
    const closure = await runProgram(
      join(this.nix, 'nix-store'),
      ['--query', '--requisites', ...wanted],
      this.env,
    );
    const derivations = closure.split('\n').filter((path) => path.endsWith('.drv'));
    const outputs = await runProgram(
      join(this.nix, 'nix-store'),
      ['--query', '--outputs', ...derivations],
      this.env,
    );
    await this.#own([...derivations, ...outputs.trim().split('\n')]);
    return wanted;
  }

  /** Marks the busybox, kept between rounds, for deletion. */
  async forget(): Promise<void> {
    await this.#own([this.busybox]);
  }

  async #own(paths: readonly string[]): Promise<void> {
    await appendFile(ownedPathsFile(this.dir), paths.map((path) => `${path}\n`).join(''));
  }
}

/** Part of the names of this run's inputs. It identifies them even if adding one was interrupted. */
export function runName(dir: string): string {
  return basename(dir).replace('drover-bench-', '');
}

/** File that lists the paths to delete from the host's store at the end. */
export function ownedPathsFile(dir: string): string {
  return join(dir, 'store-paths');
}
