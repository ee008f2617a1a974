import { DroverError } from '../lib/errors.js';
import { count } from '../lib/human.js';

/** A place in a file; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** One mistake in a configuration. */
export interface ConfigProblem {
  readonly file: string;
  /** Undefined if the file has no text for it: the file as a whole, or a default. */
  readonly position: Position | undefined;
  /** Dotted, such as `doors.ssh.authorizedKeys[1]`; empty if no key is concerned. */
  readonly key: string;
  /** One line. */
  readonly reason: string;
}

/** Further problems are only counted: a broken file can have one per character. */
const MAX_LISTED = 50;

/**
 * A rejected configuration. `message` has one line per problem, in the file's order.
 * Codes: `CONFIG_INVALID` (the text is wrong), `CONFIG_UNREADABLE` (there is no text).
 */
export class ConfigError extends DroverError {
  override readonly name = 'ConfigError';
  readonly problems: readonly ConfigProblem[];

  constructor(
    code: 'CONFIG_INVALID' | 'CONFIG_UNREADABLE',
    problems: readonly ConfigProblem[],
    options: { cause?: unknown; hint?: string } = {},
  ) {
    const lines = problems.slice(0, MAX_LISTED).map(formatProblem);
    if (problems.length > MAX_LISTED)
      lines.push(`and ${count(problems.length - MAX_LISTED, 'more problem')}`);
    super(code, lines.join('\n'), {
      ...options,
      context: { file: problems[0]?.file, problems: problems.length },
    });
    this.problems = problems;
  }
}

/** `file:line:column: key: reason`, as editors and compilers write it. */
function formatProblem({ file, position, key, reason }: ConfigProblem): string {
  const place = position === undefined ? file : `${file}:${position.line}:${position.column}`;
  return [place, key, reason].filter((part) => part !== '').join(': ');
}

/** A path of keys and list indices as one line of text: `doors.ssh.authorizedKeys[1]`. */
export function formatKey(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    const name = String(part);
    const shown = /^[\w-]{1,64}$/.test(name) ? name : showValue(name);
    return text === '' ? shown : `${text}.${shown}`;
  }, '');
}

/** A value from the file, short enough for one line of an error. */
export function showValue(value: unknown): string {
  if (value === null) return 'nothing (null)';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value !== 'string') return typeof value;
  const short = value.length > 60 ? `${value.slice(0, 60)}…` : value;
  // JSON leaves these characters as they are, and a terminal obeys some of them.
  return JSON.stringify(short).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
