import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';

/** A failure of the demo itself. */
export class DemoError extends Error {
  /** Exit status of the demo. */
  readonly exitStatus: number;

  constructor(message: string, exitStatus = 1) {
    super(message);
    this.exitStatus = exitStatus;
  }
}

/** A program that the demo has started. Its standard error goes to a file. */
export interface Running {
  readonly child: ChildProcess;
  readonly logFile: string;
  /** The exit status, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

export interface StartOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly logFile: string;
  /** Sees each line of standard error. */
  readonly onLine?: (line: string) => void;
  /** Sees each line of standard output. */
  readonly onOutput?: (line: string) => void;
}

export function start(program: string, args: readonly string[], options: StartOptions): Running {
  const child = spawn(program, args, { env: options.env, stdio: ['ignore', 'pipe', 'pipe'] });
  const log = createWriteStream(options.logFile, { mode: 0o600 });
  child.stderr.pipe(log);
  const { onLine, onOutput } = options;
  if (onOutput !== undefined) createInterface({ input: child.stdout }).on('line', onOutput);
  if (onLine !== undefined) createInterface({ input: child.stderr }).on('line', onLine);
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve(signal ?? code ?? 0);
    });
  });
  ended.catch(() => undefined);
  return { child, logFile: options.logFile, ended };
}

/** A program's standard output. @throws DemoError with the end of its log */
export async function outputOf(running: Running): Promise<string> {
  let text = '';
  running.child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
  });
  const status = await running.ended;
  if (status === 0) return text;
  throw new DemoError(
    `${running.child.spawnargs[0] ?? ''} ended with ${status}:\n${await tailOf(running.logFile)}`,
  );
}

export async function tailOf(file: string, lines = 15): Promise<string> {
  return (await readFile(file, 'utf8')).trimEnd().split('\n').slice(-lines).join('\n');
}
