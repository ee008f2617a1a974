/** Control and format characters, line and paragraph separators, and lone surrogates. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/**
 * Text of any origin, made safe for a terminal, a log or a label: a character that could move the cursor, change the
 * terminal, reorder the text or hide in it is replaced by its escape (`\u001b`). JSON stays the same JSON. Applied
 * twice, it changes nothing more.
 * @param kept characters that may stay, such as line feeds in text of several lines
 */
export function printable(text: string, kept = ''): string {
  return text.replace(UNPRINTABLE, (character) =>
    kept.includes(character) ? character : escaped(character),
  );
}

/** The same for text of several lines: line feeds and tabs stay. */
export function printableLines(text: string): string {
  return printable(text, '\n\t');
}

/**
 * Select Graphic Rendition (ECMA-48, 8.3.117) of bold, dim and foreground colours: it can neither hide nor move text.
 */
const COLOUR = /(\u001b\[(?:(?:[0-2]|22|3[0-7]|39|9[0-7])(?:;(?:[0-2]|22|3[0-7]|39|9[0-7]))*)?m)/;

/** The same for a terminal that shows colours, which stay. */
export function printableColours(text: string): string {
  return text
    .split(COLOUR)
    .map((part, index) => (index % 2 === 1 ? part : printableLines(part)))
    .join('');
}

function escaped(character: string): string {
  return [...Array(character.length).keys()]
    .map((index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`)
    .join('');
}
