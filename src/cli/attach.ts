import { once } from 'node:events';
import type { Duplex, Readable, Writable } from 'node:stream';

import type { ControlError } from '../control/api.js';
import {
  decodeFromProgram,
  encodeToProgram,
  MAX_INPUT_BYTES,
  readFrames,
  SIGNALS,
  type ProgramSignal,
  type TerminalSize,
} from '../guest/program.js';
import { codeFacts, type DroverErrorCode } from '../lib/error-codes.js';
import { DroverError } from '../lib/errors.js';

/** Size of a piece of input, in bytes. */
const PIECE_BYTES = 64 * 1024;
/** Longest error of a supervisor, in bytes. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
/** Added to a signal's number, as shells do. */
const EXIT_KILLED = 128;

/** Streams that a program in a guest reads and writes here: the process's own. */
export interface ProgramIo {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };
  readonly stderr: Writable;
  /** Has the terminal pass every byte as it is. @returns a function that undoes it */
  makeRaw(): () => void;
  /** @returns a function that stops it */
  onSignal(signal: ProgramSignal, handler: () => void): () => void;
}

export type Terminal = TerminalSize & { readonly type: string };

/** The terminal that the program is to have; null where input or output is none. */
export function terminalOf({ stdin, stdout }: ProgramIo, env: NodeJS.ProcessEnv): Terminal | null {
  if (stdin.isTTY !== true || stdout.isTTY !== true) return null;
  const type = /^[\w.+-]{1,64}$/.exec(env['TERM'] ?? '')?.[0] ?? 'dumb';
  return { ...sizeOf(stdout), type };
}

function sizeOf({ columns = 80, rows = 24 }: ProgramIo['stdout']): TerminalSize {
  return { columns: Math.min(columns, 10_000), rows: Math.min(rows, 10_000) };
}

/** Ctrl-], as in telnet. */
const ESCAPE = 0x1d;

export interface AttachOptions {
  /** Whether Ctrl-] on a terminal leaves the program, which ends then. Default: it is input. */
  readonly escape?: boolean;
  /** Whether the program gets input. Default: it does. */
  readonly input?: boolean;
}

/**
 * Connects a program in a guest to these streams until it ends. What it sends is shown as it is, as in any terminal.
 * @param connection what ControlClient has opened
 * @param onNotice is given text of the supervisor for people
 * @returns its exit status; 0 if the user has left
 * @throws DroverError what the supervisor says instead; `NOT_RUNNING` if it ends
 */
export async function attach(
  connection: Duplex,
  io: ProgramIo,
  terminal: Terminal | null,
  onNotice: (text: string) => void,
  { escape = false, input = true }: AttachOptions = {},
): Promise<number> {
  const { stdin, stdout, stderr } = io;
  const over = new AbortController();
  const user = { hasLeft: false };
  const credit = { bytes: MAX_INPUT_BYTES, more: (): void => undefined };
  connection.on('error', () => undefined);
  const send = (message: Parameters<typeof encodeToProgram>[0]): void => {
    if (!user.hasLeft) connection.write(encodeToProgram(message));
  };
  const offs = (Object.keys(SIGNALS) as ProgramSignal[]).map((signal) =>
    io.onSignal(signal, () => {
      send({ kind: 'signal', signal });
    }),
  );
  const onResize = (): void => {
    send({ kind: 'size', ...sizeOf(stdout) });
  };
  const cook = terminal === null ? undefined : io.makeRaw();
  if (terminal !== null) stdout.on('resize', onResize);
  try {
    const leave = (): void => {
      user.hasLeft = true;
      connection.end();
    };
    const keys = escape && terminal !== null ? beforeEscape(stdin, leave) : stdin;
    if (input) void passInput(keys as AsyncIterable<Buffer>, send, credit, over.signal);
    for await (const frame of readFrames(connection, MAX_MESSAGE_BYTES)) {
      // Waits until nothing of the program is left.
      if (user.hasLeft) continue;
      if (frame.kind === 'm') onNotice(String(frame.content));
      if (frame.kind === 'f') throw failureOf(JSON.parse(String(frame.content)) as ControlError);
      const message = decodeFromProgram(frame);
      if (message === undefined) continue;
      if (message.kind === 'exit') return message.code;
      if (message.kind === 'killed') return EXIT_KILLED + message.signal;
      if (message.kind === 'taken') {
        credit.bytes += message.count;
        credit.more();
      } else {
        const output = message.kind === 'stdout' ? stdout : stderr;
        if (!output.write(message.bytes)) await once(output, 'drain');
      }
    }
    if (user.hasLeft) return 0;
    throw new DroverError('NOT_RUNNING', 'The supervisor has ended, and the program with it');
  } finally {
    over.abort();
    for (const off of offs) off();
    stdout.off('resize', onResize);
    cook?.();
    stdin.destroy();
    connection.destroy();
  }
}

/** Input up to the escape. @param leave is called when it is typed; nothing comes after it */
async function* beforeEscape(stdin: Readable, leave: () => void): AsyncGenerator<Buffer> {
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    const at = chunk.indexOf(ESCAPE);
    if (at < 0) {
      yield chunk;
      continue;
    }
    yield chunk.subarray(0, at);
    leave();
    return;
  }
}

/** Sends input in pieces, no more than the program takes. */
async function passInput(
  stdin: AsyncIterable<Buffer>,
  send: (message: Parameters<typeof encodeToProgram>[0]) => void,
  credit: { bytes: number; more: () => void },
  over: AbortSignal,
): Promise<void> {
  try {
    for await (const chunk of stdin) {
      for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
        const bytes = chunk.subarray(at, at + PIECE_BYTES);
        while (credit.bytes < bytes.length && !over.aborted)
          await new Promise<void>((resolve) => (credit.more = resolve));
        if (over.aborted) return;
        credit.bytes -= bytes.length;
        send({ kind: 'input', bytes });
      }
    }
  } catch {
    // Input that cannot be read has ended.
  }
  if (!over.aborted) send({ kind: 'end' });
}

function failureOf({ error: { code, message, hint } }: ControlError): DroverError {
  const known = codeFacts(code) === undefined ? 'CONTROL_FAILED' : (code as DroverErrorCode);
  return new DroverError(known, message, { hint: hint ?? undefined });
}
