import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** Timing of one build, from the start of the client, in milliseconds. */
export interface Timing {
  readonly totalMs: number;
  /** To the first line of the build's log; to the last one of all builds. */
  readonly firstLogMs: number;
  readonly lastLogMs: number;
}

/** @throws Error with the program's output */
export async function runProgram(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const running = promisify(execFile)(program, args, { env, maxBuffer: 64 * 1024 * 1024 });
  const kill = (): void => void running.child.kill('SIGTERM');
  process.once('exit', kill);
  try {
    return (await running).stdout;
  } finally {
    process.off('exit', kill);
  }
}

/** Runs a program of the benchmark with the flags that the supervisor has. @returns what it printed */
export function runAsSupervisor(packageDir: string, program: URL): string {
  const [shebang = ''] = readFileSync(join(packageDir, 'src/main.ts'), 'utf8').split('\n');
  const flags = shebang.split(' ').filter((word) => word.startsWith('--'));
  return execFileSync(process.execPath, [...flags, fileURLToPath(program)], { encoding: 'utf8' }).trim();
}

/** Runs a client, and measures when it prints which lines. @throws Error with its output, if it fails */
export async function timeBuild(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<Timing> {
  let said = '';
  let firstLogMs = NaN;
  let lastLogMs = NaN;
  const start = performance.now();
  const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const kill = (): void => void child.kill('SIGTERM');
  process.once('exit', kill);
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text: string) => {
    const now = performance.now() - start;
    said += text;
    if (Number.isNaN(firstLogMs) && said.includes('FIRST ')) firstLogMs = now;
    if (text.includes('LAST ')) lastLogMs = now;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const totalMs = performance.now() - start;
  process.off('exit', kill);
  if (code !== 0 || Number.isNaN(lastLogMs)) {
    throw new Error(`${program} ${args.join(' ')} ended with ${code ?? 'a signal'}:\n${said}`);
  }
  return { totalMs, firstLogMs, lastLogMs };
}

/** A program that runs until it is stopped or this process ends. */
export class Service {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #said: string[] = [];
  #running = true;

  constructor(
    command: readonly string[],
    args: readonly string[],
    options: { readonly env: NodeJS.ProcessEnv; readonly cwd: string },
  ) {
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command, ...args], {
      ...options,
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#said.push(text));
    this.#exited = new Promise((resolve) => {
      this.#child.once('error', (error) => this.#said.push(error.message));
      this.#child.once('close', () => {
        this.#running = false;
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get said(): string {
    return this.#said.join('');
  }

  /**
   * Waits until `isReady` returns true. @throws Error with the program's output, if it ends or takes too long
   */
  async ready(isReady: () => boolean | Promise<boolean>): Promise<void> {
    await until(() => {
      if (!this.#running) throw new Error(`ended before it was ready:\n${this.said}`);
      return isReady();
    });
  }

  async stop(): Promise<void> {
    if (this.#running) this.#child.kill('SIGTERM');
    await this.#exited;
  }
}

export async function until(isSo: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`not ready after ${timeoutMs / 1000} s`);
    await sleep(20);
  }
}

/** A free port. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('there is no free port');
  return address.port;
}
