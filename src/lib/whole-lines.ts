/** Characters of one line that are held back at most. */
const MAX_HELD_CHARACTERS = 64 * 1024;

/** Decodes a text by the line, since an escape sequence may lie on both sides of where two chunks meet. */
export async function* wholeLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let held = '';
  for await (const chunk of chunks) {
    held += decoder.decode(chunk, { stream: true });
    const end = held.length > MAX_HELD_CHARACTERS ? held.length : held.lastIndexOf('\n') + 1;
    if (end > 0) yield held.slice(0, end);
    held = held.slice(end);
  }
  held += decoder.decode();
  if (held !== '') yield held;
}
