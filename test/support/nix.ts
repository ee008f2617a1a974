import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { REPOSITORY, type Drover } from './drover.js';
import { waitUntil, within } from './wait.js';

export type NixVersion = 'debian' | 'modern';

/**
 * Directories of the two Nix versions that tests run as host and in guests: Debian's own, and that of
 * scripts/test-inputs.sh.
 */
export const NIX_DIRS: Readonly<Record<NixVersion, string>> = {
  debian: '/usr/bin',
  modern: join(REPOSITORY, '.cache/nix-forky/bin'),
};

/**
 * Makes a store of its own for the modern Nix in `dir`, which takes nothing from the machine.
 * @returns the environment that its programs need
 */
export async function ownStore(dir: string): Promise<NodeJS.ProcessEnv> {
  await mkdir(join(dir, 'etc'));
  const settings = ['build-users-group =', 'sandbox = false', 'substituters =', 'filter-syscalls = false'];
  await writeFile(join(dir, 'etc/nix.conf'), settings.join('\n'));
  return {
    PATH: `${NIX_DIRS.modern}:${process.env['PATH'] ?? ''}`,
    HOME: dir,
    NIX_CONF_DIR: join(dir, 'etc'),
    NIX_STORE_DIR: join(dir, 'store'),
    NIX_STATE_DIR: join(dir, 'state'),
    NIX_LOG_DIR: join(dir, 'log'),
  };
}

/** A build that is cut off by this would have hung, in milliseconds. */
const BUILD_DEADLINE_MS = 200_000;

export interface NixResult {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface NixHostOptions {
  readonly version?: NixVersion;
  readonly door?: 'socket' | 'ssh';
  /** Where it builds; without, on this machine itself. */
  readonly drover?: Drover;
  /** More lines of nix.conf. */
  readonly nixConf?: Readonly<Record<string, string>>;
  /** Time limit of its programs, in milliseconds. */
  readonly deadlineMs?: number;
}

/** A Nix program that runs. */
export class NixProcess {
  stdout = '';
  stderr = '';
  readonly ended: Promise<NixResult>;
  readonly pid: number;

  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv, input: string) {
    // A process group of its own, as a shell makes for each command: Ctrl-C reaches all of it.
    const child = spawn(program, args, { env, detached: true, stdio: 'pipe' });
    this.pid = child.pid ?? -1;
    child.stdout.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    child.stdin.on('error', () => undefined).end(input);
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exitCode, signal) => {
        resolve({ exitCode, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  /** Signals the whole process group, as a terminal does for Ctrl-C. */
  signalGroup(signal: NodeJS.Signals): void {
    process.kill(-this.pid, signal);
  }

  /** Waits until it has written this to its standard error. */
  async waitForOutput(text: string, deadlineMs?: number): Promise<void> {
    await waitUntil(`the output "${text}"`, () => this.stderr.includes(text), deadlineMs).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}; there was: ${this.stderr}`);
      },
    );
  }
}

/** A Nix installation that builds nothing itself, but has Drover for it. */
export class NixHost implements AsyncDisposable {
  /** In the names of everything that its tests put into the store, so that nothing is there already. */
  readonly id = randomBytes(6).toString('hex');
  /** Directory of its configuration. */
  readonly dir: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #programs: string;
  readonly #deadlineMs: number;

  constructor(dir: string, programs: string, env: NodeJS.ProcessEnv, deadlineMs = BUILD_DEADLINE_MS) {
    this.dir = dir;
    this.#programs = programs;
    this.#env = env;
    this.#deadlineMs = deadlineMs;
  }

  /** Starts a program of this Nix. */
  start(program: string, args: readonly string[] = [], { input = '' } = {}): NixProcess {
    return new NixProcess(join(this.#programs, program), args, this.#env, input);
  }

  /** Runs a program of this Nix to its end. A failure is a result. */
  async run(
    program: string,
    args: readonly string[] = [],
    options: { input?: string; deadlineMs?: number } = {},
  ): Promise<NixResult> {
    const running = this.start(program, args, options);
    const { deadlineMs = this.#deadlineMs } = options;
    return await within(`the end of ${program}`, running.ended, deadlineMs).catch((error: unknown) => {
      running.signalGroup('SIGKILL');
      throw new Error(`${String(error)}; there was: ${running.stderr}`);
    });
  }

  /** Starts nix-build of an expression in Nix. */
  startBuild(expression: string, args: readonly string[] = []): NixProcess {
    return this.start('nix-build', ['--no-out-link', ...args, '-E', expression]);
  }

  /** Runs nix-build of an expression in Nix; `outputs` are the paths that it printed. */
  async build(
    expression: string,
    args: readonly string[] = [],
  ): Promise<NixResult & { readonly outputs: readonly string[] }> {
    const result = await this.run('nix-build', ['--no-out-link', ...args, '-E', expression]);
    return { ...result, outputs: result.stdout.split('\n').filter((line) => line !== '') };
  }

  /** The expression of a derivation of its own: a script for /bin/sh, which is busybox in guests. */
  derivation(name: string, script: string, attributes = ''): string {
    return `(derivation { name = "e2e-${this.id}-${name}"; system = "x86_64-linux"; builder = "/bin/sh";
      args = [ "-c" ${nixString(script)} ]; ${attributes} })`;
  }

  /** Writes a file beside its configuration. */
  async writeFile(name: string, text: string): Promise<string> {
    const file = join(this.dir, name);
    await writeFile(file, text);
    return file;
  }

  /** Deletes paths from the store, once nothing pins them: a session's pins end a moment after it. */
  async deletePaths(...paths: readonly string[]): Promise<void> {
    let said = '';
    await waitUntil(`the end of ${paths.join(', ')}`, async () => {
      const { exitCode, stderr } = await this.run('nix-store', ['--delete', ...paths]);
      said = stderr;
      return exitCode === 0;
    }).catch(() => {
      throw new Error(said);
    });
  }

  /** Removes its own paths from the store. */
  async [Symbol.asyncDispose](): Promise<void> {
    const own = (await readdir('/nix/store')).filter((name) => name.includes(this.id));
    const paths = own.filter((name) => !name.endsWith('.lock'));
    if (paths.length > 0) await this.deletePaths(...paths.map((name) => `/nix/store/${name}`));
    // Nix leaves these of builds that failed.
    for (const name of own) if (name.endsWith('.lock')) await rm(`/nix/store/${name}`, { force: true });
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** `result` of what must not fail. @throws with what it printed */
export function succeeded<Result extends NixResult>(result: Result): Result {
  if (result.exitCode === 0) return result;
  throw new Error(`exit status ${result.exitCode ?? result.signal ?? ''}: ${result.stdout}${result.stderr}`);
}

/** A string literal of the Nix language. */
export function nixString(text: string): string {
  return JSON.stringify(text).replaceAll('${', '\\${');
}

/** A machines line or store URL whose ssh reads the configuration in `dir`. */
export function withSshConfig(machine: string, dir: string): string {
  return machine.replace('remote-program=ssh%20', `remote-program=ssh%20-F%20${dir}/ssh_config%20`);
}

/** Sets up a Nix host. Dispose of it: `await using`, or in `afterAll`. */
export async function nixHost(options: NixHostOptions = {}): Promise<NixHost> {
  const { version = 'debian', door = 'socket', drover } = options;
  const settings = {
    'experimental-features': 'nix-command',
    'build-users-group': '',
    sandbox: 'false',
    substituters: '',
    ...(drover === undefined
      ? { 'max-jobs': '1', builders: '' }
      : { 'max-jobs': '0', system: 'aarch64-darwin', builders: await drover.machines(door) }),
    ...options.nixConf,
  };
  const sshConfig = drover !== undefined && door === 'ssh' ? await drover.sshConfig() : '';
  // Made late, so that nothing is left of it when a supervisor does not answer.
  const dir = await mkdtemp('/tmp/nh-');
  settings.builders = withSshConfig(settings.builders, dir);
  await writeFile(
    join(dir, 'nix.conf'),
    Object.entries(settings)
      .map(([name, value]) => `${name} = ${value}\n`)
      .join(''),
  );
  // Nothing in the home directory of the user who runs this.
  await writeFile(join(dir, 'ssh_config'), sshConfig.replaceAll('~/', `${dir}/`));
  const env = {
    PATH: `${NIX_DIRS[version]}:${process.env['PATH'] ?? ''}`,
    HOME: dir,
    NIX_CONF_DIR: dir,
    NIX_USER_CONF_FILES: '',
  };
  return new NixHost(dir, NIX_DIRS[version], env, options.deadlineMs);
}
