import { printableLines } from '../lib/printable.js';

/** Markup that is safe to send. */
export interface Html {
  readonly markup: string;
}

/** Anything that stands in a template; undefined and null leave nothing. */
export type Part = Html | string | number | undefined | null | readonly Part[];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '`': '&#96;',
};

/** Text of any origin, for an element or for an attribute in quotes. Characters that cannot be seen are shown. */
export function escapeHtml(text: string): string {
  return printableLines(text).replace(/[&<>"'`]/g, (character) => ENTITIES[character] ?? '');
}

/** Template of markup. Everything that is put into it is escaped, unless it is markup itself. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  let markup = '';
  strings.forEach((string, index) => (markup += string + markupOf(parts[index])));
  return { markup };
}

function markupOf(part: Part): string {
  if (part === undefined || part === null) return '';
  if (typeof part === 'string') return escapeHtml(part);
  if (typeof part === 'number') return String(part);
  return 'markup' in part ? part.markup : part.map(markupOf).join('');
}
