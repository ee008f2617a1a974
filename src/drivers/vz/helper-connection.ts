import type { ChildProcess } from 'node:child_process';

import { z } from 'zod';

import { DroverError } from '../../lib/errors.js';
import { Emitter } from '../../lib/emitter.js';
import {
  helperEventSchema,
  helperReplySchema,
  type HelperEvent,
  type HelperFault,
  type HelperReply,
  type HelperRequest,
} from './helper-protocol.js';

/** Longer than any message of the helper's, in characters. */
const MAX_MESSAGE_LENGTH = 1024 * 1024;
/** Characters at the end of stderr that are kept for error messages. */
const TAIL_LENGTH = 2000;

const messageSchema = z.union([
  helperReplySchema.transform((reply) => ({ kind: 'reply' as const, reply })),
  helperEventSchema.transform((event) => ({ kind: 'event' as const, event })),
]);

interface Waiting {
  readonly op: HelperRequest['op'];
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: DroverError) => void;
}

/**
 * Requests, replies and events over a helper's stdin and stdout.
 * INVARIANT: every request settles: by its reply, or by the helper's end.
 */
export class HelperConnection {
  readonly events = new Emitter<HelperEvent>();
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #rest = '';
  #stderr = '';
  #failure: DroverError | undefined;
  #ended: string | undefined;

  /** @param process its three outputs and inputs are pipes */
  constructor(process: ChildProcess) {
    this.#process = process;
    // EPIPE, when the helper has ended: that it has, is told in another way.
    process.stdin?.on('error', () => undefined);
    process.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#take(chunk);
    });
    process.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-TAIL_LENGTH);
    });
  }

  /** The protocol error, if any; the helper has been killed then. */
  get failure(): DroverError | undefined {
    return this.#failure;
  }

  /** The last lines of stderr, for people. */
  get stderr(): string {
    return this.#stderr.trim();
  }

  /**
   * The reply's result.
   * @throws DroverError `VZ_HELPER_REFUSED`, `VZ_HELPER_ENDED`, `VZ_HELPER_FAILED`
   */
  async request(request: HelperRequest): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#gone(request.op, this.#ended));
        return;
      }
      const id = (this.#lastId += 1);
      this.#waiting.set(id, { op: request.op, resolve, reject });
      this.#process.stdin?.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }

  /** The helper is gone: what still waits is told so. */
  end(how: string): void {
    this.#ended = how;
    for (const { op, reject } of this.#waiting.values()) reject(this.#gone(op, how));
    this.#waiting.clear();
  }

  #gone(op: string, how: string): DroverError {
    return (
      this.#failure ??
      new DroverError('VZ_HELPER_ENDED', `vz-helper cannot ${op}: ${how}`, { context: { op } })
    );
  }

  #take(chunk: string): void {
    if (this.#failure !== undefined) return;
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#message(line);
    if (this.#rest.length > MAX_MESSAGE_LENGTH) this.#fail('vz-helper sends a message without an end');
  }

  #message(line: string): void {
    let message;
    try {
      message = messageSchema.parse(JSON.parse(line));
    } catch {
      this.#fail(`vz-helper sent an invalid message: ${line.slice(0, 200)}`);
      return;
    }
    if (message.kind === 'event') this.events.emit(message.event);
    else this.#reply(message.reply);
  }

  #reply(reply: HelperReply): void {
    const waiting = reply.id === null ? undefined : this.#waiting.get(reply.id);
    if (waiting === undefined || reply.id === null) {
      this.#fail(`vz-helper answers what was not asked: ${reply.ok ? String(reply.id) : reply.error.text}`);
      return;
    }
    this.#waiting.delete(reply.id);
    if (reply.ok) waiting.resolve(reply.result);
    else waiting.reject(refused(waiting.op, reply.error));
  }

  /** Nothing that follows can be trusted. */
  #fail(message: string): void {
    this.#failure ??= new DroverError('VZ_HELPER_FAILED', message);
    this.#process.kill('SIGKILL');
  }
}

function refused(op: string, { domain, code, text, key }: HelperFault): DroverError {
  return new DroverError('VZ_HELPER_REFUSED', `vz-helper cannot ${op}: ${text}`, {
    context: { op, domain, code, key },
  });
}
