import { createHash } from 'node:crypto';

/** Longest record, in bytes. A build with thousands of outputs stays below it. */
export const MAX_RECORD_BYTES = 1024 * 1024;
/** `prev` of the first record of a chain. */
export const NO_RECORD = '0'.repeat(64);

/** A place in a chain of records: how many there are, and the SHA-256 of the last one's line, in hex. */
export interface ChainHead {
  readonly seq: number;
  readonly hash: string;
}

export const EMPTY_CHAIN: ChainHead = { seq: 0, hash: NO_RECORD };

/** Fields of a record besides its place in the chain. Never a secret. */
export interface AuditFields {
  readonly type: string;
}

/**
 * The next record as a line of JSON, without its line feed, and the chain's head after it. `seq` counts from 1; `prev`
 * is the SHA-256 of the line before, so that no line can be changed, removed or put in between without a trace.
 */
export function chainLine(
  head: ChainHead,
  time: Date,
  fields: AuditFields,
): { line: string; head: ChainHead } {
  const seq = head.seq + 1;
  const line = JSON.stringify({ seq, time: time.toISOString(), prev: head.hash, ...fields });
  return { line, head: { seq, hash: lineHash(line) } };
}

/** The head after a line that was written already; undefined if it is not a record. */
export function headAfter(line: string | Buffer): ChainHead | undefined {
  const record = parseRecord(line);
  return record === undefined ? undefined : { seq: record.seq, hash: lineHash(line) };
}

/** A record's place, and its type. */
export interface ChainRecord {
  readonly seq: number;
  readonly prev: string;
  readonly time: string;
  readonly type: string;
}

/** Reads what the chain needs of a line; undefined if it is not a record. */
export function parseRecord(line: string | Buffer): ChainRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line.toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { seq, prev, time, type } = value as Record<string, unknown>;
  const isRecord =
    Number.isSafeInteger(seq) &&
    typeof prev === 'string' &&
    typeof time === 'string' &&
    typeof type === 'string';
  return isRecord ? { seq: seq as number, prev, time, type } : undefined;
}

/** SHA-256 of a line without its line feed, in hex. */
export function lineHash(line: string | Buffer): string {
  return createHash('sha256').update(line).digest('hex');
}
