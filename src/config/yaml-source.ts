import { isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument, Parser, visit } from 'yaml';
import type { CST, Document, Pair, ParsedNode, YAMLError } from 'yaml';

import { errorMessage } from '../lib/errors.js';
import { formatKey, showValue } from './errors.js';
import type { Position } from './errors.js';

/** A configuration has 4 levels. The YAML library recurses, and overflows the stack at some 10,000. */
const MAX_DEPTH = 32;
/** Enough for every sensible file, too few for one that expands exponentially. */
const MAX_ALIASES = 50;

/** Replacements for messages of the YAML library that only programmers understand. */
const PLAIN_WORDS: Readonly<Partial<Record<YAMLError['code'], string>>> = {
  MULTIPLE_DOCS: 'a second document starts here; a configuration is a single document',
  NON_STRING_KEY: 'a key must be plain text',
};

interface YamlProblem {
  readonly position: Position | undefined;
  readonly key: string;
  readonly reason: string;
}

/** The values of a YAML text, and the position of each. */
export interface YamlSource {
  /** Undefined if the text has no value that can be checked further. */
  readonly value: { readonly root: unknown } | undefined;
  readonly problems: readonly YamlProblem[];
  /** Position of a key or of its value; if it is not in the text, of the nearest thing around it. */
  locate(path: readonly PropertyKey[], what: 'key' | 'value'): Position;
}

/** Reads YAML 1.2. Never throws for bad `text`: syntax errors and duplicate keys are `problems`. */
export function readYaml(text: string): YamlSource {
  const lines = new LineCounter();
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const tooDeep = findTooDeep(text, lines);
  if (tooDeep !== undefined) {
    const reason = `nested more than ${MAX_DEPTH} levels deep`;
    return {
      value: undefined,
      problems: [{ position: at(tooDeep), key: '', reason }],
      locate: () => ({ line: 1, column: 1 }),
    };
  }
  const document = parseDocument(text, {
    schema: 'core',
    resolveKnownTags: false,
    stringKeys: true,
    logLevel: 'error',
    prettyErrors: false,
  });
  const errors: readonly YAMLError[] = [...document.errors, ...document.warnings];
  const problems = errors.map((error) => describe(error, document, text, at));
  const onlyDuplicates = errors.every(({ code }) => code === 'DUPLICATE_KEY');
  let value: YamlSource['value'];
  if (onlyDuplicates) {
    const expanded = expandAliases(document, at);
    if ('reason' in expanded) problems.push(expanded);
    else value = expanded;
  }
  return { value, problems, locate: (path, what) => locate(document, path, what, at) };
}

/** Offset of the first value that is nested too deeply. Fills `lines`; does not recurse. */
function findTooDeep(text: string, lines: LineCounter): number | undefined {
  const todo: { token: CST.Token; depth: number }[] = [];
  for (const token of new Parser(lines.addNewLine).parse(text)) todo.push({ token, depth: 0 });
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const { token, depth } = next;
    if (depth > MAX_DEPTH) return token.offset;
    if (token.type === 'document' && token.value !== undefined) todo.push({ token: token.value, depth });
    if (!('items' in token)) continue;
    for (const { key, value } of token.items) {
      if (key) todo.push({ token: key, depth: depth + 1 });
      if (value) todo.push({ token: value, depth: depth + 1 });
    }
  }
  return undefined;
}

function describe(
  error: YAMLError,
  document: Document.Parsed,
  text: string,
  at: (offset: number) => Position,
): YamlProblem {
  const position = at(error.pos[0]);
  if (error.code === 'DUPLICATE_KEY') {
    const { key, first } = findDuplicate(document, error.pos[0]);
    const where = first === undefined ? '' : `; the first is on line ${at(first).line}`;
    return { position, key, reason: `this key is given twice${where}` };
  }
  const line = text.split(/\r?\n/, position.line)[position.line - 1] ?? '';
  const advice = /\[[\da-f:.]+\]:\d/i.test(line) ? '; an address with brackets needs quotes' : '';
  const message = PLAIN_WORDS[error.code] ?? error.message.replace(/[\s\p{Cc}]+/gu, ' ').slice(0, 200);
  return { position, key: '', reason: `YAML syntax: ${message}${advice}` };
}

/** Dotted name of the key at `offset`, and the offset of its first occurrence in the same map. */
function findDuplicate(document: Document.Parsed, offset: number): { key: string; first?: number } {
  let found: { key: string; first?: number } = { key: '' };
  visit(document, {
    Pair(_, pair, ancestors) {
      if (startOf(pair.key) !== offset) return undefined;
      const parent = ancestors.at(-1);
      const name = keyOf(pair);
      const twin = isMap(parent) ? parent.items.find((other) => keyOf(other) === name) : undefined;
      const first = twin === undefined ? undefined : startOf(twin.key);
      const path = ancestors.filter((node) => isPair(node)).map(keyOf);
      found = { key: formatKey([...path, name]), ...(first === undefined ? {} : { first }) };
      return visit.BREAK;
    },
  });
  return found;
}

function expandAliases(
  document: Document.Parsed,
  at: (offset: number) => Position,
): { readonly root: unknown } | YamlProblem {
  let last: number | undefined;
  let unresolved: YamlProblem | undefined;
  visit(document, {
    Alias(_, alias) {
      last = startOf(alias);
      if (alias.resolve(document) !== undefined) return undefined;
      const reason = `the alias *${alias.source} has no anchor: there is no &${alias.source} before it`;
      unresolved = { position: at(last ?? 0), key: '', reason };
      return visit.BREAK;
    },
  });
  if (unresolved !== undefined) return unresolved;
  try {
    return { root: document.toJS({ maxAliasCount: MAX_ALIASES }) };
  } catch (error) {
    const tooMany = error instanceof ReferenceError && error.message.startsWith('Excessive alias count');
    const reason = tooMany
      ? `aliases expand to more than ${MAX_ALIASES} values`
      : `YAML: ${showValue(errorMessage(error))}`;
    return { position: at(last ?? 0), key: '', reason };
  }
}

function locate(
  document: Document.Parsed,
  path: readonly PropertyKey[],
  what: 'key' | 'value',
  at: (offset: number) => Position,
): Position {
  let node: unknown = document.contents;
  let place = startOf(node) ?? 0;
  for (const [depth, part] of path.entries()) {
    const found = child(node, part, document);
    if (found === undefined) break;
    node = found.value;
    const isTarget = depth === path.length - 1;
    const start =
      isTarget && what === 'value' ? (startOf(found.value) ?? startOf(found.key)) : startOf(found.key);
    place = start ?? startOf(found.value) ?? place;
  }
  return at(place);
}

function child(
  parent: unknown,
  part: PropertyKey,
  document: Document.Parsed,
): { key?: unknown; value: unknown } | undefined {
  const node = resolveAlias(parent, document);
  if (isMap(node)) {
    // If a key is given twice, its last value was checked.
    const pair = node.items.findLast((item) => keyOf(item) === String(part));
    return pair === undefined ? undefined : { key: pair.key, value: pair.value };
  }
  if (!isSeq(node) || typeof part !== 'number') return undefined;
  const item = node.items[part];
  return item === undefined ? undefined : { value: item };
}

function resolveAlias(node: unknown, document: Document.Parsed): unknown {
  return isNode(node) && 'resolve' in node ? node.resolve(document) : node;
}

function keyOf({ key }: Pair): string {
  return String(isScalar(key) ? key.value : key);
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? (node as ParsedNode).range[0] : undefined;
}
