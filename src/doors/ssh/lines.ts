import type { Readable } from 'node:stream';

/**
 * Calls `onLine` for every line of a stream of UTF-8 text. A line that exceeds `maxBytes` ends the reading
 * with a call of `onTooLong`.
 */
export function readLines(
  stream: Readable,
  maxBytes: number,
  { onLine, onTooLong }: { readonly onLine: (line: string) => void; readonly onTooLong: () => void },
): void {
  let parts: Buffer[] = [];
  let length = 0;
  const onData = (chunk: Buffer): void => {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(0x0a, start);
      const part = chunk.subarray(start, end === -1 ? chunk.length : end);
      length += part.length;
      if (length > maxBytes) {
        stream.off('data', onData);
        stream.resume();
        onTooLong();
        return;
      }
      parts.push(part);
      if (end === -1) return;
      const line = Buffer.concat(parts).toString();
      parts = [];
      length = 0;
      start = end + 1;
      onLine(line);
    }
  };
  stream.on('data', onData);
}
