import { once } from 'node:events';
import type { Duplex } from 'node:stream';

import {
  decodeToProgram,
  encodeFrame,
  encodeFromProgram,
  isLast,
  MAX_INPUT_BYTES,
  readFrames,
  type Frame,
  type RunningProgram,
} from '../guest/program.js';
import { codeFacts } from '../lib/error-codes.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { ControlError } from './api.js';

/** A request has arguments and variables of a program in it. */
const MAX_REQUEST_BYTES = 1024 * 1024;
/** Time for the reason of a guest's end to arrive, after the program's own end did, in milliseconds. */
const REASON_TIMEOUT_MS = 10_000;

/** A program that runs for a person, and what is held for it. */
export interface HeldProgram extends AsyncDisposable {
  readonly program: RunningProgram;
  /** Aborts when the guest is gone, with the reason. */
  readonly lost: AbortSignal;
}

/**
 * Starts the program that a request asks for.
 * @param say tells the person something, in a line
 * @param gone aborts when the person has left, or the supervisor ends
 */
export type OpenProgram = (
  request: unknown,
  say: (text: string) => void,
  gone: AbortSignal,
) => Promise<HeldProgram>;

/**
 * Serves one program over a connection, in frames (src/guest/program.ts). The client sends `r`, the request in JSON,
 * and then messages to the program. It gets the program's messages, besides `m`, text for people, and `f`, a
 * ControlError, which comes last. Never rejects.
 * @param ended aborts when the supervisor ends programs, with the reason
 */
export async function serveProgram(socket: Duplex, open: OpenProgram, ended: AbortSignal): Promise<void> {
  socket.on('error', () => undefined);
  const left = new AbortController();
  socket.once('close', () => {
    left.abort(new DroverError('CLIENT_GONE', 'The client has left'));
  });
  const gone = AbortSignal.any([left.signal, ended]);
  try {
    const frames = readFrames(socket, MAX_REQUEST_BYTES);
    const request = requestOf((await frames.next()).value as Frame | undefined);
    const say = (text: string): void => void socket.write(encodeFrame('m', Buffer.from(`${text}\n`)));
    await using held = await open(request, say, gone);
    const close = (): void => {
      held.program.close();
    };
    gone.addEventListener('abort', close, { once: true });
    if (gone.aborted) close();
    try {
      void passInput(frames, held.program, left);
      await passOutput(held, socket, gone);
    } finally {
      gone.removeEventListener('abort', close);
    }
  } catch (error) {
    const why: unknown = gone.aborted ? gone.reason : error;
    socket.write(encodeFrame('f', Buffer.from(JSON.stringify(controlError(why)))));
  }
  socket.end();
}

function requestOf(frame: Frame | undefined): unknown {
  if (frame?.kind !== 'r') throw malformed();
  try {
    return JSON.parse(String(frame.content)) as unknown;
  } catch {
    throw malformed();
  }
}

function malformed(): DroverError {
  return new DroverError('CONTROL_FAILED', 'The request for a program is malformed', {
    hint: 'Client and supervisor may be of different versions.',
  });
}

/** @param left aborted at the end */
async function passInput(
  frames: AsyncIterable<Frame>,
  program: RunningProgram,
  left: AbortController,
): Promise<void> {
  try {
    for await (const frame of frames) {
      const message = decodeToProgram(frame);
      if (message === undefined) throw malformed();
      program.send(message);
    }
    left.abort(new DroverError('CLIENT_GONE', 'The client has left'));
  } catch (error) {
    left.abort(error);
  }
}

async function passOutput({ program, lost }: HeldProgram, socket: Duplex, gone: AbortSignal): Promise<void> {
  try {
    for await (const message of program.messages) {
      // Not more than the client can have sent.
      if (message.kind === 'taken' && message.count > MAX_INPUT_BYTES) throw malformed();
      if (!socket.write(encodeFromProgram(message)) && !isLast(message))
        await once(socket, 'drain', { signal: gone });
    }
  } catch (error) {
    if (!gone.aborted && !lost.aborted)
      await once(lost, 'abort', { signal: AbortSignal.timeout(REASON_TIMEOUT_MS) }).catch(() => undefined);
    throw lost.aborted ? lost.reason : error;
  }
}

/** An error, as clients get it. */
export function controlError(error: unknown): ControlError {
  const code = errorCode(error);
  const known = code !== undefined && codeFacts(code) !== undefined ? code : 'CONTROL_FAILED';
  const hint = error instanceof DroverError ? (error.hint ?? null) : null;
  return { error: { code: known, message: errorMessage(error), hint } };
}
