import type { ChildProcess, StdioOptions } from 'node:child_process';

import { OOM_SCORE, setOomScore, startProgram, type StartOptions } from './process.js';

/** A program that runs beside this process and ends with it. */
export interface Child {
  readonly process: ChildProcess;
  /** Settles with a description of its end once it has ended and its outputs are closed. Never rejects. */
  readonly exited: Promise<string>;
  /** True once it has ended. */
  readonly ended: boolean;
  /** Kills it, and waits for its end. */
  kill(): Promise<void>;
}

/** This process may have ended before the kernel was told to kill the child with it. */
const UNLESS_ORPHANED = 'test "$PPID" = "$0" && exec "$@"';

/**
 * Starts a program in a session of its own, so that Ctrl-C at this process's terminal does not reach it.
 * @param setpriv util-linux's setpriv with further options for the child. With it, the kernel kills the child when this
 * process dies; without it, as on macOS, a child can outlive this process.
 * @throws DroverError as `startProgram`
 */
export async function startChild(
  setpriv: readonly [program: string, ...options: string[]] | undefined,
  program: string,
  args: readonly string[],
  stdio: StdioOptions,
  { oomScore = OOM_SCORE.guest, ...place }: Pick<StartOptions, 'cwd' | 'env'> & { oomScore?: number } = {},
): Promise<Child> {
  const unlessOrphaned = ['--pdeathsig', 'KILL', '/bin/sh', '-c', UNLESS_ORPHANED, String(process.pid)];
  const command = [program, ...args] as const;
  const [first, ...rest] = setpriv === undefined ? command : [...setpriv, ...unlessOrphaned, ...command];
  const child = await startProgram(first, rest, { ...place, detached: true, stdio });
  if (child.pid !== undefined) void setOomScore(child.pid, oomScore);
  let ended = false;
  const exited = new Promise<string>((resolve) => {
    child.once('close', (code, signal) => {
      ended = true;
      resolve(signal === null ? `it ended with exit status ${code ?? 0}` : `it was killed by ${signal}`);
    });
  });
  return {
    process: child,
    exited,
    get ended() {
      return ended;
    },
    kill: async () => {
      if (!ended) child.kill('SIGKILL');
      await exited;
    },
  };
}
