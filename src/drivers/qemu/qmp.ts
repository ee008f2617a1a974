import type { Duplex } from 'node:stream';

import { z } from 'zod';

import { DroverError } from '../../lib/errors.js';

/** Longer than any message of QEMU's that is read here, in bytes. */
const MAX_LINE_BYTES = 1024 * 1024;

const messageSchema = z.union([
  z.object({ QMP: z.unknown() }).transform(() => ({ kind: 'greeting' as const })),
  z.object({ return: z.unknown() }).transform((value) => ({ kind: 'return' as const, value: value.return })),
  z
    .object({ error: z.object({ class: z.string(), desc: z.string() }) })
    .transform(({ error }) => ({ kind: 'error' as const, description: error.desc })),
  z.object({ event: z.string() }).transform(({ event }) => ({ kind: 'event' as const, event })),
]);

/** What QEMU says over its machine protocol (docs/interop/qmp-spec in QEMU). */
export type QmpMessage = z.output<typeof messageSchema>;

/** Splits QEMU's output into messages: one object a line. */
export class QmpParser {
  #rest = '';

  /** @throws DroverError `QMP_FAILED` for what is no message, or has no end */
  push(chunk: string): QmpMessage[] {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_LINE_BYTES) throw failed('QEMU sends a message without an end');
    return lines.filter((line) => line.trim() !== '').map(parse);
  }
}

function parse(line: string): QmpMessage {
  try {
    return messageSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw failed(`QEMU says what is no message: ${line.slice(0, 100)}`, cause);
  }
}

/**
 * Tells the QEMU at the other end to end: it closes its files and exits, whatever its guest is doing. Settles when it has
 * agreed, or has ended. The connection is of no use afterwards.
 * @throws DroverError `QMP_FAILED`, or Node's error for a connection that has failed
 */
export async function quitQemu(connection: Duplex): Promise<void> {
  connection.setEncoding('utf8');
  const send = (command: string): void => {
    connection.write(`${JSON.stringify({ execute: command })}\n`);
  };
  const parser = new QmpParser();
  const pending = ['qmp_capabilities', 'quit'];
  try {
    for await (const chunk of connection) {
      for (const message of parser.push(String(chunk))) {
        if (message.kind === 'error') throw failed(`QEMU refuses: ${message.description}`);
        if (message.kind === 'event') continue;
        const next = pending.shift();
        if (next === undefined) return;
        send(next);
      }
    }
  } finally {
    connection.destroy();
  }
}

function failed(message: string, cause?: unknown): DroverError {
  return new DroverError('QMP_FAILED', message, { cause });
}
