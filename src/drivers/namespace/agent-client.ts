import type { Readable } from 'node:stream';
import { connect } from 'node:net';

import { DroverError, errorMessage } from '../../lib/errors.js';
import { CommandOutput } from '../../guest/command-output.js';
import type { ExecResult } from '../../guest/driver.js';
import {
  decodeFromProgram,
  encodeToProgram,
  isLast,
  readFrames,
  type FromProgram,
  type ProgramRequest,
  type RunningProgram,
} from '../../guest/program.js';

/** Limit of namespace/agent.c for the words of a command. */
const MAX_WORDS_BYTES = 1024 * 1024;
const MAX_WORDS = 8192;

/** How a command is run: namespace/agent.c has these numbers. */
const MODE = { command: 0, pipes: 1, terminal: 2 } as const;

/**
 * Runs a command in a guest by its agent (namespace/agent.c has the protocol). What the guest sends is not trusted.
 * @param socket where the agent listens, on the host
 * @param stdin may come later than the command starts
 * @param signal ends the command
 * @throws DroverError `GUEST_EXEC_FAILED` if the agent or the command ends early
 */
export async function runInGuest(
  socket: string,
  argv: readonly string[],
  stdin: string | Promise<string>,
  signal: AbortSignal,
): Promise<ExecResult> {
  const connection = connect({ path: socket, signal });
  // A command may end without reading its input; how it ended comes after that.
  connection.on('error', () => undefined);
  connection.write(encodeWords(argv, MODE.command));
  void Promise.resolve(stdin).then(
    (text) => connection.end(text),
    () => connection.destroy(),
  );
  try {
    return await readResult(connection);
  } catch (cause) {
    throw new DroverError('GUEST_EXEC_FAILED', `${argv[0] ?? ''} did not finish: ${errorMessage(cause)}`, {
      cause,
    });
  } finally {
    connection.destroy();
  }
}

/**
 * Runs a program in a guest by its agent (namespace/program.c has the protocol). What the guest sends is not trusted.
 * @throws DroverError `GUEST_EXEC_FAILED` if the command line is too long
 */
export function startInGuest(socket: string, { argv, terminal }: ProgramRequest): RunningProgram {
  const words = encodeWords(argv, terminal === undefined ? MODE.pipes : MODE.terminal);
  if (words.length > MAX_WORDS_BYTES || argv.length > MAX_WORDS)
    throw new DroverError('GUEST_EXEC_FAILED', 'The command line is too long for a guest');
  const connection = connect(socket);
  connection.on('error', () => undefined);
  connection.write(words);
  if (terminal !== undefined) connection.write(encodeToProgram({ kind: 'size', ...terminal }));
  let sent = 0;
  return {
    send: (message) => {
      if (message.kind === 'input') sent += message.bytes.length;
      if (connection.writable) connection.write(encodeToProgram(message));
    },
    messages: programMessages(connection, (count) => (sent -= count) >= 0),
    close: () => connection.destroy(),
  };
}

/** @param takes notes input that the program has taken; false if it is more than there was */
async function* programMessages(
  connection: Readable,
  takes: (count: number) => boolean,
): AsyncGenerator<FromProgram> {
  try {
    for await (const frame of readFrames(connection)) {
      const message = decodeFromProgram(frame);
      if (message === undefined || (message.kind === 'taken' && !takes(message.count)))
        throw new Error('the agent sent an invalid message');
      yield message;
      if (isLast(message)) return;
    }
    throw new Error('the agent closed the connection');
  } catch (cause) {
    throw new DroverError('GUEST_EXEC_FAILED', `The program's end is not known: ${errorMessage(cause)}`, {
      cause,
    });
  } finally {
    connection.destroy();
  }
}

function encodeWords(argv: readonly string[], mode: number): Buffer {
  const words = Buffer.from(argv.map((word) => `${word}\0`).join(''));
  const prefix = Buffer.alloc(4);
  prefix.writeUIntLE(Math.min(words.length, 0xffffff), 0, 3);
  prefix.writeUInt8(mode, 3);
  return Buffer.concat([prefix, words]);
}

async function readResult(connection: Readable): Promise<ExecResult> {
  const stdout = new CommandOutput();
  const stderr = new CommandOutput();
  for await (const { kind, content } of readFrames(connection)) {
    if (kind === '1') stdout.add(content);
    else if (kind === '2') stderr.add(content);
    else if (kind === 'x' && content.length === 1) {
      return { exitCode: content.readUInt8(), stdout: String(stdout), stderr: String(stderr) };
    } else if (kind === 's') throw new Error('it was killed');
    else throw new Error('the agent sent an invalid message');
  }
  throw new Error('the agent closed the connection');
}
