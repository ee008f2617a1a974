import { fstatSync } from 'node:fs';
import { isatty } from 'node:tty';

import { z } from 'zod';

/** `json`: as pino writes it. `journal`: the same, with systemd's priority before it. `terminal`: for people. */
export type LogFormat = 'json' | 'journal' | 'terminal';

/** pino's levels, with the priorities of syslog(3). */
const LEVELS: ReadonlyMap<number, { readonly name: string; readonly priority: number }> = new Map([
  [10, { name: 'trace', priority: 7 }],
  [20, { name: 'debug', priority: 7 }],
  [30, { name: 'info', priority: 6 }],
  [40, { name: 'warning', priority: 4 }],
  [50, { name: 'error', priority: 3 }],
  [60, { name: 'fatal', priority: 2 }],
]);
const UNKNOWN_LEVEL = { name: 'info', priority: 6 };

const lineSchema = z.looseObject({
  level: z.number(),
  time: z.string(),
  msg: z.string().default(''),
  err: z.looseObject({ message: z.string().default(''), hint: z.string().optional() }).optional(),
});

/** The format for standard error: whether a person reads it, or systemd's journal, or another program. */
export function standardErrorFormat(env: NodeJS.ProcessEnv): LogFormat {
  if (isatty(2)) return 'terminal';
  return env['JOURNAL_STREAM'] === streamOf(2) ? 'journal' : 'json';
}

/** As `$JOURNAL_STREAM` names it. */
function streamOf(descriptor: number): string | undefined {
  try {
    const { dev, ino } = fstatSync(descriptor);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** @param line of JSON, as pino writes it, with its line feed */
export function formatLine(line: string, format: LogFormat): string {
  if (format === 'json') return line;
  const level = LEVELS.get(Number(/^\{"level":(\d+)/.exec(line)?.[1])) ?? UNKNOWN_LEVEL;
  if (format === 'journal') return `<${level.priority}>${line}`;
  const parsed = lineSchema.safeParse(parse(line));
  if (!parsed.success) return line;
  const { time, msg, err, ...others } = parsed.data;
  const severity = level.name === 'info' ? [] : [`${level.name}:`];
  const words = Object.entries(others)
    .filter(([name]) => name !== 'level')
    .map(([name, value]) => `${name}=${word(value)}`);
  const first = [clockTime(time), ...severity, msg, ...words].join(' ');
  return `${[first, ...errorLines(err)].join('\n')}\n`;
}

function errorLines(err: z.output<typeof lineSchema>['err']): string[] {
  if (err === undefined) return [];
  const { message, hint, stack } = err;
  const parts = [typeof stack === 'string' ? stack : message, ...(hint === undefined ? [] : [hint])];
  return parts.flatMap((part) => part.split('\n').map((line) => `  ${line}`));
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** A string of plain characters as it is, anything else as JSON. */
function word(value: unknown): string {
  return typeof value === 'string' && /^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(value);
}

/** Local time of day. */
function clockTime(iso: string): string {
  const date = new Date(iso);
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((part) => String(part).padStart(2, '0'))
    .join(':');
}
