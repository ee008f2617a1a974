import { z } from 'zod';

import { MAX_MESSAGE_BYTES, NOTICES, type Notice } from './messages.js';

const connection = z.int().min(0);
const base64 = z.base64().max(MAX_MESSAGE_BYTES);
const text = z.string().max(1024);

/** From the ssh door's process to the supervisor, which trusts none of it. */
const fromDoor = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('ready') }),
  z.strictObject({
    type: z.literal('login'),
    connection,
    peer: text,
    key: base64,
    /** The data that was signed, as RFC 4252 has it, and the signature. */
    signed: base64,
    signature: base64,
  }),
  z.strictObject({ type: z.literal('logout'), connection }),
  z.strictObject({
    type: z.literal('notice'),
    notice: z.enum(Object.keys(NOTICES) as [Notice, ...Notice[]]),
    peer: text,
    reason: text.optional(),
  }),
]);
export type FromDoor = z.infer<typeof fromDoor>;

/** Undefined if the line is not a message. */
export function parseFromDoor(line: string): FromDoor | undefined {
  try {
    return fromDoor.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
