import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { expect } from '@jest/globals';
import { execa } from 'execa';
import { stringify } from 'yaml';

import type { Status } from '../../src/control/api.js';
import { ControlClient } from '../../src/control/client.js';
import { EventLog } from './event-log.js';
import { processes } from './guests.js';
import { DEADLINE_MS, waitUntil, within } from './wait.js';

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
export const MAIN = join(REPOSITORY, 'dist/main.js');

/** A line of the supervisor's log; see its fields in the tests that look at them. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string; readonly level: number };

export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  /** Sections of the configuration; keys of the harness's own defaults are kept beside them. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Directory of the Nix that runs in guests; default: the one on PATH. */
  readonly nix?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** More keys of doors.ssh. */
  readonly ssh?: Readonly<Record<string, unknown>>;
  /** The client of the ssh door is trusted. */
  readonly trusted?: boolean;
  /** That of an earlier supervisor; it is the caller's to remove. Default: a new one, removed in the end. */
  readonly stateDir?: string;
  /** Program with arguments that starts it: `['prlimit', '--nofile=256:256']`. */
  readonly through?: readonly string[];
}

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `drover` with these arguments, to its end. */
export async function runDrover(
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<CliResult> {
  const result = await execa(process.execPath, [MAIN, ...args], {
    reject: false,
    stripFinalNewline: false,
    timeout: options.timeoutMs ?? DEADLINE_MS,
    env: options.env ?? {},
  });
  return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
}

/** A supervisor that really runs, as `drover serve`, with a state directory of its own. */
export class Drover implements AsyncDisposable {
  readonly configFile: string;
  readonly stateDir: string;
  /** Private key that the ssh door accepts. */
  readonly identity: string;
  readonly events = new EventLog();
  readonly log: LogLine[] = [];
  readonly exited: Promise<Ended>;
  readonly #dir: string;
  readonly #child: ChildProcess;
  readonly #control: ControlClient;
  /** Its output, apart from log lines. */
  #printed = '';
  #ended = false;

  constructor(child: ChildProcess, dir: string, stateDir: string) {
    this.#child = child;
    this.#dir = dir;
    this.stateDir = stateDir;
    this.#control = new ControlClient({ stateDir });
    this.configFile = join(dir, 'drover.yaml');
    this.identity = join(dir, 'id_ed25519');
    if (child.stderr !== null) {
      createInterface({ input: child.stderr }).on('line', (line) => {
        if (line.startsWith('{')) this.#note(JSON.parse(line) as LogLine);
        else this.#printed += `${line}\n`;
      });
    }
    this.exited = new Promise((resolve) => {
      child.once('close', (exitCode, signal) => {
        this.#ended = true;
        resolve({ exitCode, signal });
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** A boot that fails is tried again, which can make a test fail later, or hide that it is slow. */
  #note(line: LogLine): void {
    this.log.push(line);
    if (line.msg === 'guest did not boot')
      process.stderr.write(`${expect.getState().currentTestName ?? ''}: ${JSON.stringify(line)}\n`);
  }

  /** Waits until it is ready. @throws when it ends instead, with what it printed */
  async ready(): Promise<void> {
    await waitUntil('drover to be ready', () => this.#ended || this.hasLogged('drover is ready'));
    if (this.#ended) throw new Error(`drover serve ended: ${this.#printed}${JSON.stringify(this.log)}`);
    const events = await this.#control.followEvents();
    this.events.begin(await this.#control.recentEvents());
    void (async () => {
      for await (const event of events) this.events.add(event);
    })().catch(() => undefined);
  }

  hasLogged(message: string): boolean {
    return this.log.some(({ msg }) => msg === message);
  }

  async waitForLog(message: string): Promise<LogLine> {
    return await waitUntil(`the log line "${message}"`, () => this.log.find(({ msg }) => msg === message));
  }

  /**
   * Waits until `events` has all that has happened so far.
   * @returns its position: give it as `since` to wait for what happens from now on
   */
  async caughtUp(): Promise<number> {
    await this.events.has(await this.#control.recentEvents());
    return this.events.position;
  }

  async status(): Promise<Status> {
    return await this.#control.status(DEADLINE_MS);
  }

  /** The guest that there is: not always g1, since a boot that fails is repeated with another guest. */
  async onlyGuest(): Promise<string> {
    const { guests } = await this.status();
    const [guest] = guests;
    if (guest !== undefined && guests.length === 1) return guest.id;
    throw new Error(`expected one guest, got ${JSON.stringify(guests)}`);
  }

  /** The guest of a build that has been given one. @param name end of its derivation's name, without `.drv` */
  async guestOf(name: string): Promise<string> {
    const ending = `-${name}.drv`;
    return (await this.events.waitFor('build-started', ({ derivation }) => derivation.endsWith(ending)))
      .guest;
  }

  /** Replaces the configuration file at once: the supervisor would read half of one that is being written. */
  async replaceConfig(text: string): Promise<void> {
    const file = `${this.configFile}.new`;
    await writeFile(file, text);
    await rename(file, this.configFile);
  }

  /** Runs another verb of drover with the same configuration. */
  async cli(...args: string[]): Promise<CliResult> {
    return await runDrover([...args, '--config', this.configFile]);
  }

  /** The line for Nix's `builders`. */
  async machines(door: 'socket' | 'ssh'): Promise<string> {
    return await this.#printedBy('machines', '--door', door);
  }

  /** The ssh_config that goes with the ssh door. */
  async sshConfig(): Promise<string> {
    return await this.#printedBy('machines', '--format', 'ssh-config', '--identity', this.identity);
  }

  async #printedBy(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.cli(...args);
    if (exitCode !== 0) throw new Error(`drover ${args.join(' ')}: ${stderr}`);
    return stdout.trimEnd();
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it as a service manager would, and waits for its end. */
  async stop(): Promise<Ended> {
    this.signal('SIGTERM');
    return await within('the end of drover serve', this.exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.signal('SIGKILL');
    await this.exited;
    // The kernel kills its guests then, which takes a moment.
    const guests = ` dir=${this.stateDir}/guests/`;
    await waitUntil('the end of its guests', async () =>
      (await processes()).every(({ command }) => !command.includes(guests)),
    );
    await rm(this.#dir, { recursive: true, force: true });
  }
}

/** Starts a supervisor and waits until it is ready. Dispose of it: `await using`, or in `afterAll`. */
export async function startDrover(options: StartOptions = {}): Promise<Drover> {
  // Short, since the paths of Unix sockets are bounded.
  const dir = await mkdtemp('/tmp/dr-');
  const stateDir = options.stateDir ?? join(dir, 's');
  const { publicKey } = await makeKey(join(dir, 'id_ed25519'));
  const { guest, doors, ...rest } = options.config ?? {};
  const config = {
    stateDir,
    metrics: null,
    log: { level: 'debug' },
    doors: {
      ssh: {
        listen: '127.0.0.1:0',
        ...(options.trusted === true
          ? { clients: [{ key: publicKey, trusted: true }] }
          : { authorizedKeys: [publicKey] }),
        ...options.ssh,
      },
      ...(doors ?? {}),
    },
    // Debian's Nix 2.8 has known holes.
    guest: {
      acceptVulnerableNix: true,
      ...(options.nix === undefined ? {} : { nix: options.nix }),
      ...(guest ?? {}),
    },
    ...rest,
  };
  await writeFile(join(dir, 'drover.yaml'), stringify(config));
  // It must not outlive the test's process, whatever becomes of that.
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', ...(options.through ?? [])],
      ...[process.execPath, MAIN, 'serve', '--config', join(dir, 'drover.yaml')],
    ],
    { env: { ...process.env, ...options.env }, stdio: ['ignore', 'inherit', 'pipe'] },
  );
  const drover = new Drover(child, dir, stateDir);
  try {
    await drover.ready();
    return drover;
  } catch (error) {
    await drover[Symbol.asyncDispose]();
    throw error;
  }
}

/** Makes an ssh key pair. @param file of the private key */
export async function makeKey(file: string): Promise<{ readonly publicKey: string }> {
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'test', '-f', file]);
  const { stdout } = await execa('ssh-keygen', ['-y', '-f', file]);
  return { publicKey: stdout.trim() };
}
