import { constants } from 'node:os';

import type ssh2 from 'ssh2';

import { DroverError } from '../lib/errors.js';
import type { FromProgram, RunningProgram } from './program.js';

/** A command's channel, as a program. */
export function programOf(channel: ssh2.ClientChannel): RunningProgram {
  const queue: FromProgram[] = [];
  let isOver = false;
  let wake = (): void => undefined;
  const push = (message: FromProgram): void => {
    queue.push(message);
    wake();
  };
  for (const [kind, stream] of [
    ['stdout', channel],
    ['stderr', channel.stderr],
  ] as const) {
    stream.on('data', (bytes: Buffer) => {
      // Resumed when it has been passed on.
      stream.pause();
      push({ kind, bytes });
    });
  }
  let end: FromProgram | undefined;
  channel.once('exit', (code: number | null, signal?: string) => {
    end = code === null ? { kind: 'killed', signal: numberOf(signal) } : { kind: 'exit', code: code & 0xff };
  });
  const over = (): void => {
    isOver = true;
    wake();
  };
  channel.once('close', over);
  async function* messages(): AsyncGenerator<FromProgram> {
    try {
      for (;;) {
        const next = queue.shift();
        if (next !== undefined) {
          yield next;
          if (next.kind === 'stdout') channel.resume();
          else if (next.kind === 'stderr') channel.stderr.resume();
        } else if (isOver) break;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
      if (end === undefined)
        throw new DroverError('GUEST_EXEC_FAILED', "The program's end is not known: its connection ended");
      yield end;
    } finally {
      channel.destroy();
    }
  }
  return {
    send: (message) => {
      if (!channel.writable) {
        // The program does not read any more: the rest is dropped.
        if (message.kind === 'input') push({ kind: 'taken', count: message.bytes.length });
        return;
      }
      if (message.kind === 'input') {
        const count = message.bytes.length;
        channel.write(message.bytes, () => {
          push({ kind: 'taken', count });
        });
      } else if (message.kind === 'end') channel.end();
      else if (message.kind === 'size') channel.setWindow(message.rows, message.columns, 0, 0);
      else channel.signal(message.signal.slice('SIG'.length));
    },
    messages: messages(),
    close: () => {
      channel.destroy();
      // A guest may never confirm it.
      over();
    },
  };
}

/** @param name without `SIG` */
function numberOf(name = ''): number {
  const numbers: Readonly<Partial<Record<string, number>>> = constants.signals;
  return numbers[`SIG${name}`] ?? constants.signals.SIGKILL;
}
