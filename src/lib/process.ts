import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { Duplex, type Readable } from 'node:stream';

import { DroverError, errorCode, errorMessage } from './errors.js';
import { exhaustion } from './exhaustion.js';

/** Maximum size of each output of a command, in bytes. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

export interface StartOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string;
  /** In a session of its own, so that Ctrl-C at this process's terminal does not reach it. */
  readonly detached?: boolean;
  readonly stdio: StdioOptions;
}

/**
 * Starts a program, never through a shell. All programs are started here: if descriptors run out, Node
 * returns a child without `stdin`, `stdout` and `stderr`, and emits the error a moment later.
 * @returns the child, with every requested pipe
 * @throws DroverError `PROGRAM_NOT_FOUND`, `HOST_EXHAUSTED`, `PROGRAM_FAILED`
 */
export async function startProgram(
  program: string,
  args: readonly string[],
  options: StartOptions,
): Promise<ChildProcess> {
  try {
    const child = spawn(program, args, { ...options, stdio: options.stdio });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      // It stays: an error after the start, as of a `kill`, is not of interest.
      child.on('error', reject);
    });
    return child;
  } catch (cause) {
    throw startFailure(program, cause);
  }
}

function startFailure(program: string, cause: unknown): DroverError {
  if (errorCode(cause) === 'ENOENT')
    return new DroverError('PROGRAM_NOT_FOUND', `The program ${program} was not found`, {
      cause,
      context: { program },
    });
  return (
    exhaustion(cause, `${program} cannot be started`) ??
    new DroverError('PROGRAM_FAILED', `${program} cannot be started: ${errorMessage(cause)}`, {
      cause,
      context: { program },
    })
  );
}

export interface RunResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end. A failing program is a result, not an exception.
 * @param options.signal ends it: neither it nor a child of it that keeps its outputs open is waited for
 * @throws DroverError `PROGRAM_NOT_FOUND`, `HOST_EXHAUSTED`, or `PROGRAM_FAILED` when it cannot be run, is killed, or
 *   prints too much
 */
export async function run(
  program: string,
  args: readonly string[],
  options: {
    readonly input?: string | Promise<string>;
    readonly env?: NodeJS.ProcessEnv;
    readonly signal?: AbortSignal;
  } = {},
): Promise<RunResult> {
  const { input = '', env, signal } = options;
  signal?.throwIfAborted();
  const child = await startProgram(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
  const { stdin, stdout, stderr } = pipesOf(child);
  const ended = endOf(child, program, signal);
  // It may end before it has read all of its input.
  stdin.on('error', () => undefined);
  if (typeof input === 'string') stdin.end(input);
  else
    input.then(
      (text) => stdin.end(text),
      () => child.kill('SIGKILL'),
    );
  const outputs = await Promise.all([
    ended,
    collect(stdout, child, program),
    collect(stderr, child, program),
  ]).finally(() => {
    for (const stream of [stdin, stdout, stderr]) stream.destroy();
  });
  return { exitCode: outputs[0], stdout: outputs[1], stderr: outputs[2] };
}

/** Settles when the program has ended and its outputs are closed. @returns its exit status */
async function endOf(child: ChildProcess, program: string, signal: AbortSignal | undefined): Promise<number> {
  let onAbort = (): void => undefined;
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('close', (code, killedBy) => {
        if (code !== null) resolve(code);
        else reject(unfinished(program, `it was killed by ${killedBy ?? 'a signal'}`));
      });
      onAbort = () => {
        child.kill('SIGKILL');
        reject(unfinished(program, errorMessage(signal?.reason)));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted === true) onAbort();
    });
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

async function collect(stream: Readable, child: ChildProcess, program: string): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await new Promise<void>((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes <= MAX_OUTPUT_BYTES) return;
      child.kill('SIGKILL');
      reject(unfinished(program, `it printed more than ${MAX_OUTPUT_BYTES} bytes`));
    });
    stream.once('close', resolve);
    stream.once('error', resolve);
  });
  return Buffer.concat(chunks).toString('utf8');
}

function unfinished(program: string, why: string): DroverError {
  return new DroverError('PROGRAM_FAILED', `${program} did not finish: ${why}`, { context: { program } });
}

function pipesOf({ stdin, stdout, stderr }: ChildProcess) {
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('not started with pipes');
  return { stdin, stdout, stderr };
}

/**
 * Starts a program whose standard input and output are a byte stream. Closing the stream ends it.
 * @throws DroverError as `startProgram`
 */
export async function spawnStream(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<Duplex> {
  const child = await startProgram(program, args, { env, stdio: ['pipe', 'pipe', 'ignore'] });
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  stream.once('close', () => child.kill('SIGTERM'));
  return stream;
}

/**
 * Scores for the kernel's choice of a process to kill when memory runs out: a guest before anything of the host, and a
 * program that works for clients like any other of the host.
 */
export const OOM_SCORE = { supervisor: -900, client: 0, guest: 500 } as const;

/** Does nothing where there is no such choice, or this process may not influence it. */
export async function setOomScore(pid: number | 'self', score: number): Promise<void> {
  await writeFile(`/proc/${pid}/oom_score_adj`, String(score)).catch(() => undefined);
}
