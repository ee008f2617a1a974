import { spawn } from 'node:child_process';
import { Duplex, Readable } from 'node:stream';

import { execa } from 'execa';

import { DroverError } from './errors.js';

/** Maximum size of each output of a command, in bytes. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

export interface RunResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end; never through a shell. A failing program is a result, not an exception.
 * @throws DroverError `PROGRAM_NOT_FOUND` or `PROGRAM_FAILED` when it cannot be run, is killed, or prints too much.
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
  const { input = '' } = options;
  const result = await execa(program, args, {
    reject: false,
    maxBuffer: MAX_OUTPUT_BYTES,
    stripFinalNewline: false,
    // execa's own signal handler would end this process on a SIGTERM that another handler answers by draining.
    cleanup: false,
    input: typeof input === 'string' ? input : Readable.from(once(input)),
    ...(options.env === undefined ? {} : { env: options.env, extendEnv: false }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  if (result.exitCode === undefined || result.isMaxBuffer) {
    const notFound = result.code === 'ENOENT';
    throw new DroverError(
      notFound ? 'PROGRAM_NOT_FOUND' : 'PROGRAM_FAILED',
      notFound
        ? `The program ${program} was not found`
        : `${program} did not finish: ${result.shortMessage ?? ''}`,
      { cause: result.cause, context: { program } },
    );
  }
  return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
}

async function* once(text: Promise<string>): AsyncGenerator<string> {
  yield await text;
}

/**
 * Starts a program whose standard input and output are a byte stream. Closing the stream ends it.
 * @throws Node's own error, such as `ENOENT`, when it cannot be started
 */
export async function spawnStream(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<Duplex> {
  const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'ignore'] });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  stream.once('close', () => child.kill('SIGTERM'));
  return stream;
}
