import { escapeHtml, type Html } from './html.js';

/**
 * Control sequences of ECMA-48 with their parameters; strings (OSC, DCS, …) to their end or that of the line; other
 * escapes; and a lone escape character.
 */
const ESCAPE =
  /\u001b\[([0-?]*)[ -/]*([@-~])|\u001b[\]PX^_][^\u0007\u001b\n]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]|\u001b/g;

/** Rendition of text: attributes, and colours as numbers from 0 to 15. */
interface Style {
  readonly bold: boolean;
  readonly dim: boolean;
  readonly italic: boolean;
  readonly underlined: boolean;
  readonly foreground: number | undefined;
  readonly background: number | undefined;
}

const PLAIN: Style = {
  ...{ bold: false, dim: false, italic: false, underlined: false },
  ...{ foreground: undefined, background: undefined },
};

const ATTRIBUTES: Readonly<Record<number, Partial<Style>>> = {
  0: PLAIN,
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underlined: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underlined: false },
  39: { foreground: undefined },
  49: { background: undefined },
};

/**
 * Makes markup of the text that a program wrote for a terminal. Colours and attributes become classes of the style
 * sheet; every other sequence is left out, so text can be neither moved nor hidden. The rendition goes on from one
 * piece to the next.
 */
export class AnsiRenderer {
  #style = PLAIN;

  /** @param text ends where no sequence is cut */
  render(text: string): Html {
    let markup = '';
    let end = 0;
    for (const match of text.matchAll(ESCAPE)) {
      markup += this.#span(text.slice(end, match.index));
      end = match.index + match[0].length;
      if (match[2] === 'm') this.#apply(match[1] ?? '');
    }
    return { markup: markup + this.#span(text.slice(end)) };
  }

  #apply(parameters: string): void {
    const codes = parameters.split(/[;:]/).map(Number);
    for (let at = 0; at < codes.length; at++) {
      const code = codes[at] ?? 0;
      if (code === 38 || code === 48) {
        const isIndexed = codes[at + 1] === 5;
        const colour = isIndexed ? codes[at + 2] : undefined;
        // There are no classes for the other 240 colours and RGB: the text keeps its own colour.
        const known = colour !== undefined && colour < 16 ? colour : undefined;
        this.#style = { ...this.#style, [code === 38 ? 'foreground' : 'background']: known };
        at += isIndexed ? 2 : 4;
      } else this.#style = { ...this.#style, ...(ATTRIBUTES[code] ?? colourOf(code)) };
    }
  }

  #span(text: string): string {
    if (text === '') return '';
    // A progress bar that returns to the start of its line becomes lines.
    const escaped = escapeHtml(text.replace(/\r+\n/g, '\n').replaceAll('\r', '\n'));
    const classes = classesOf(this.#style);
    return classes === '' ? escaped : `<span class="${classes}">${escaped}</span>`;
  }
}

function colourOf(code: number): Partial<Style> {
  if (code >= 30 && code <= 37) return { foreground: code - 30 };
  if (code >= 40 && code <= 47) return { background: code - 40 };
  if (code >= 90 && code <= 97) return { foreground: code - 82 };
  if (code >= 100 && code <= 107) return { background: code - 92 };
  return {};
}

function classesOf({ bold, dim, italic, underlined, foreground, background }: Style): string {
  return [
    ...(bold ? ['bold'] : []),
    ...(dim ? ['dim'] : []),
    ...(italic ? ['italic'] : []),
    ...(underlined ? ['underlined'] : []),
    ...(foreground === undefined ? [] : [`fg${foreground}`]),
    ...(background === undefined ? [] : [`bg${background}`]),
  ].join(' ');
}
