import type { Readable } from 'node:stream';
import { connect } from 'node:net';

import { DroverError, errorMessage } from '../../lib/errors.js';
import type { ExecResult } from '../../guest/driver.js';

/** Maximum size of each output that is kept of a command, in bytes. */
const MAX_OUTPUT_BYTES = 1024 * 1024;
/** Maximum size of a frame's content; namespace/agent.c sends no larger one. */
const MAX_FRAME_BYTES = 64 * 1024;
const HEADER_BYTES = 5;

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
  connection.write(encodeWords(argv));
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

function encodeWords(argv: readonly string[]): Buffer {
  const words = Buffer.from(argv.map((word) => `${word}\0`).join(''));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(words.length);
  return Buffer.concat([length, words]);
}

/** The beginning of what a command printed. */
class Output {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  add(content: Buffer): void {
    const kept = content.subarray(0, MAX_OUTPUT_BYTES - this.#bytes);
    this.#chunks.push(kept);
    this.#bytes += kept.length;
  }

  toString(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

async function readResult(connection: Readable): Promise<ExecResult> {
  const stdout = new Output();
  const stderr = new Output();
  for await (const { kind, content } of frames(connection)) {
    if (kind === '1') stdout.add(content);
    else if (kind === '2') stderr.add(content);
    else if (kind === 'x' && content.length === 1) {
      return { exitCode: content.readUInt8(), stdout: String(stdout), stderr: String(stderr) };
    } else if (kind === 's') throw new Error('it was killed');
    else throw new Error('the agent sent an invalid message');
  }
  throw new Error('the agent closed the connection');
}

interface Frame {
  readonly kind: string;
  readonly content: Buffer;
}

async function* frames(connection: Readable): AsyncGenerator<Frame> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of connection as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const length = rest.readUInt32LE(1);
      if (length > MAX_FRAME_BYTES) throw new Error('the agent sent an invalid message');
      if (rest.length < HEADER_BYTES + length) break;
      yield {
        kind: rest.toString('latin1', 0, 1),
        content: rest.subarray(HEADER_BYTES, HEADER_BYTES + length),
      };
      rest = rest.subarray(HEADER_BYTES + length);
    }
  }
}
