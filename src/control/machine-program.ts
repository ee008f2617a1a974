import type { Machine } from '../guest/driver.js';
import { SIGNALS, type FromProgram, type RunningProgram } from '../guest/program.js';
import { DroverError } from '../lib/errors.js';

/** The error of a machine that ended otherwise than by its own power-off. */
export function machineLost(how: string): DroverError {
  return new DroverError('GUEST_LOST', `The machine was lost: ${how}`);
}

/** The console of a machine, as a program that ends with status 0 when the machine is powered off. */
export function programOf(machine: Machine): RunningProgram {
  const taken: FromProgram[] = [];
  let killedBy: number | undefined;
  let wake = (): void => undefined;
  const { output, input } = machine;
  output.on('readable', () => {
    wake();
  });
  let isOver = false;
  output.once('end', () => {
    isOver = true;
    wake();
  });
  async function* messages(): AsyncGenerator<FromProgram> {
    // Nothing is waited for between these questions: what comes while a message is passed on is seen.
    for (;;) {
      const next = taken.shift();
      const bytes = next === undefined ? (output.read() as Buffer | null) : null;
      if (next !== undefined) yield next;
      else if (bytes !== null) yield { kind: 'stdout', bytes };
      else if (isOver) break;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
    const { poweredOff, how } = await machine.ended;
    if (killedBy !== undefined) yield { kind: 'killed', signal: killedBy };
    else if (poweredOff) yield { kind: 'exit', code: 0 };
    else throw machineLost(how);
  }
  return {
    send: (message) => {
      if (message.kind === 'input') {
        const count = message.bytes.length;
        // Dropped once the machine has ended.
        const done = (): void => {
          taken.push({ kind: 'taken', count });
          wake();
        };
        if (input.writable) input.write(message.bytes, done);
        else done();
      } else if (message.kind === 'signal') {
        killedBy = SIGNALS[message.signal];
        void machine.kill();
      }
    },
    messages: messages(),
    close: () => void machine.kill(),
  };
}
