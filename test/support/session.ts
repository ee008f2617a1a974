import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

import { waitUntil, within } from './wait.js';

/** A process whose output is kept. */
export class Session {
  output = '';
  readonly child: ChildProcess;
  readonly ended: Promise<unknown[]>;

  constructor(program: string, args: readonly string[], env?: NodeJS.ProcessEnv) {
    this.child = spawn(program, args, { stdio: 'pipe', env });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.on('data', (text) => (this.output += String(text)));
    this.child.stdin?.on('error', () => undefined);
    this.ended = once(this.child, 'close');
  }

  type(text: string): void {
    this.child.stdin?.write(text);
  }

  async waitFor(what: RegExp, deadlineMs?: number): Promise<RegExpExecArray> {
    return await waitUntil(String(what), () => what.exec(this.output) ?? undefined, deadlineMs).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}; there was: ${this.output}`);
      },
    );
  }

  async exitCode(): Promise<unknown> {
    return (await within('the end of a session', this.ended))[0];
  }
}
