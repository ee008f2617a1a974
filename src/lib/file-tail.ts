import { open } from 'node:fs/promises';

/** The last lines of a text file, for people; nothing of a file that cannot be read. */
export async function fileTail(path: string, { lines = 10, maxBytes = 4096 } = {}): Promise<string> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    const length = Math.min(size, maxBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '';
  }
}
