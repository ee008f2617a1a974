import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';

import { errorMessage } from './errors.js';

/** A program that runs beside this process and ends with it. */
export interface Child {
  readonly process: ChildProcess;
  /** Settles, never rejects, when it has ended and its outputs are closed: how it ended, for people. */
  readonly exited: Promise<string>;
  /** Whether it has ended. */
  readonly ended: boolean;
  /** Ends it at once, and waits for its end. */
  kill(): Promise<void>;
}

/**
 * Starts a program in a session of its own, so that Ctrl-C at this process's terminal does not reach it.
 * @param setpriv util-linux's program of that name, and what else it is to take from the child: with it, the kernel kills
 * the child when this process dies. Without, as on macOS, a child can outlive it.
 */
export function startChild(
  setpriv: readonly [program: string, ...options: string[]] | undefined,
  program: string,
  args: readonly string[],
  stdio: StdioOptions,
): Child {
  const [first, ...rest] =
    setpriv === undefined ? [program, ...args] : [...setpriv, '--pdeathsig', 'KILL', program, ...args];
  const child = spawn(first, rest, { detached: true, stdio });
  let ended = false;
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => {
      ended = true;
      resolve(`it cannot be started: ${errorMessage(error)}`);
    });
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
