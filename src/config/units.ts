import { DroverError } from '../lib/errors.js';
import { showValue } from './errors.js';
import { nearest } from './suggest.js';

/** From large to small: a duration names its parts in this order. */
const TIME_UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
] as const;

/** From large to small. */
const SIZE_UNITS = [
  ['TiB', 1024 ** 4],
  ['TB', 1000 ** 4],
  ['GiB', 1024 ** 3],
  ['GB', 1000 ** 3],
  ['MiB', 1024 ** 2],
  ['MB', 1000 ** 2],
  ['KiB', 1024],
  ['kB', 1000],
  ['B', 1],
] as const;

const TIME_NAMES = TIME_UNITS.map(([name]) => name as string);
const SIZE_NAMES = SIZE_UNITS.map(([name]) => name as string);

/**
 * Milliseconds of a duration such as `5m`, `1h30m` or `500ms`: whole numbers, each with a unit
 * (d, h, m, s, ms), from large to small. Throws `UNIT_INVALID`, also for what exceeds 2^53 ms.
 */
export function parseDuration(value: unknown): number {
  if (typeof value === 'number')
    throw invalid(`expected a duration with its unit, such as 60s or 5m, got ${value}`);
  const usage = `expected a duration such as 500ms, 60s, 5m or 1h30m, got ${showValue(value)}`;
  if (typeof value !== 'string') throw invalid(usage);
  if (/^-\d/.test(value)) throw invalid(`a duration cannot be negative, got ${showValue(value)}`);
  if (!/^(\d+ ?[a-zA-Z]+ ?)+$/.test(value.slice(0, 100)) || value.length > 100) throw invalid(usage);
  let total = 0;
  let smallest = -1;
  for (const [, digits, name = ''] of value.matchAll(/(\d+) ?([a-zA-Z]+)/g)) {
    const rank = TIME_NAMES.indexOf(name);
    const unit = TIME_UNITS[rank];
    if (unit === undefined) throw invalid(unknownUnit(name, value, TIME_NAMES));
    if (rank <= smallest) {
      throw invalid(`units of a duration go from large to small, each once, got ${showValue(value)}`);
    }
    smallest = rank;
    total += Number(digits) * unit[1];
  }
  if (!Number.isSafeInteger(total)) throw invalid(`too large a duration: ${showValue(value)}`);
  return total;
}

/**
 * Bytes of a size: a whole number of bytes, or a number with a unit, such as `20GiB`, `1.5 TB` or
 * `512MiB`; fractions of a byte are cut off. Throws `UNIT_INVALID`, also for what exceeds 2^53.
 */
export function parseSize(value: unknown): number {
  const usage = `expected a size such as 20GiB, 512MiB, 1TB or a number of bytes, got ${showValue(value)}`;
  if (typeof value === 'number' ? value < 0 : typeof value === 'string' && /^-\d/.test(value)) {
    throw invalid(`a size cannot be negative, got ${showValue(value)}`);
  }
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value)) return value;
    throw invalid(Number.isInteger(value) ? `too large a size: ${value}` : usage);
  }
  const match =
    typeof value === 'string' && value.length <= 100 ? /^(\d+)(?:\.(\d+))? ?([a-zA-Z]*)$/.exec(value) : null;
  if (typeof value !== 'string' || match === null) throw invalid(usage);
  const [, whole = '', fraction = '', name = ''] = match;
  const unit = SIZE_UNITS[SIZE_NAMES.indexOf(name === '' ? 'B' : name === 'KB' ? 'kB' : name)];
  if (unit === undefined) throw invalid(unknownUnit(name, value, SIZE_NAMES));
  // Whole numbers all the way: 1.1TiB must not depend on how a float rounds.
  const bytes = (BigInt(whole + fraction) * BigInt(unit[1])) / 10n ** BigInt(fraction.length);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`too large a size: ${showValue(value)}`);
  return Number(bytes);
}

/** The shortest duration that `parseDuration` reads back as `ms`, a whole number of at least 0. */
export function formatDuration(ms: number): string {
  let text = '';
  let rest = ms;
  for (const [name, size] of TIME_UNITS) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${name}`;
    rest -= count * size;
  }
  return text === '' ? '0s' : text;
}

/** The size in the largest unit that `parseSize` reads back as exactly `bytes`, a whole number of at least 0. */
export function formatSize(bytes: number): string {
  for (const [name, size] of SIZE_UNITS) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${name}`;
  }
  return '0B';
}

function unknownUnit(name: string, value: string, units: readonly string[]): string {
  const near = nearest(name, units);
  const advice = near === undefined ? '' : `; did you mean ${near}?`;
  return `unknown unit ${showValue(name)} in ${showValue(value)} (units: ${units.join(', ')})${advice}`;
}

function invalid(reason: string): DroverError {
  return new DroverError('UNIT_INVALID', reason);
}
