import { createReadStream } from 'node:fs';

import { EMPTY_CHAIN, lineHash, MAX_RECORD_BYTES, NO_RECORD, parseRecord, type ChainHead } from './chain.js';

/** Result of checking one or more files of one audit log. */
export interface Verdict {
  readonly records: number;
  /** Times of the first and last record. */
  readonly from: string | null;
  readonly to: string | null;
  readonly head: ChainHead;
  /** Place of the record before the first one, if the files do not begin with the first record of the log. */
  readonly continues: ChainHead | null;
  /** First fault, or null. */
  readonly fault: { readonly file: string; readonly line: number; readonly reason: string } | null;
}

/**
 * Follows the chain through the files, oldest first, up to the first fault. Memory is bounded by the longest record.
 * @param hash of a record that must be there
 * @throws Node's errors of files that cannot be read
 */
export async function verifyAudit(files: readonly string[], hash?: string): Promise<Verdict> {
  let head = EMPTY_CHAIN;
  let found = hash === undefined;
  let continues: ChainHead | null = null;
  let records = 0;
  let from: string | null = null;
  let to: string | null = null;
  for (const file of files) {
    let line = 0;
    for await (const { bytes, complete } of lines(file)) {
      line += 1;
      const fault = (reason: string): Verdict => ({
        ...{ records, from, to, head, continues },
        fault: { file, line, reason },
      });
      if (!complete) return fault('the last record is incomplete');
      const record = bytes === undefined ? undefined : parseRecord(bytes);
      if (bytes === undefined || record === undefined) return fault('this is not a record');
      if (records === 0 && record.seq > 1) {
        continues = { seq: record.seq - 1, hash: record.prev };
        head = continues;
      }
      if (record.seq !== head.seq + 1)
        return fault(
          record.seq === 1 && record.prev === NO_RECORD
            ? `a new log begins here, after record ${head.seq}`
            : `this is record ${record.seq}; record ${head.seq + 1} was expected`,
        );
      if (record.prev !== head.hash) return fault('the record before it was changed');
      records += 1;
      from ??= record.time;
      to = record.time;
      head = { seq: record.seq, hash: lineHash(bytes) };
      found ||= head.hash === hash;
    }
    if (!found && file === files.at(-1))
      return {
        ...{ records, from, to, head, continues },
        fault: {
          file,
          line,
          reason: `no record has hash ${hash}: the end was cut off, or this is another log`,
        },
      };
  }
  return { records, from, to, head, continues, fault: null };
}

interface Line {
  /** Undefined for a line longer than a record can be. */
  readonly bytes: Buffer | undefined;
  readonly complete: boolean;
}

async function* lines(file: string): AsyncGenerator<Line> {
  let parts: Buffer[] = [];
  let length = 0;
  const take = (complete: boolean): Line => {
    const bytes = length <= MAX_RECORD_BYTES ? Buffer.concat(parts) : undefined;
    parts = [];
    length = 0;
    return { bytes, complete };
  };
  const add = (part: Buffer) => {
    length += part.length;
    if (length <= MAX_RECORD_BYTES) parts.push(part);
    else parts = [];
  };
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      add(chunk.subarray(start, end));
      yield take(true);
      start = end + 1;
    }
    if (start < chunk.length) add(chunk.subarray(start));
  }
  if (length > 0) yield take(false);
}
