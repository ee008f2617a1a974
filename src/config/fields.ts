import { normalize } from 'node:path';

import { z } from 'zod';

import { errorMessage } from '../lib/errors.js';
import { showValue } from './errors.js';
import { parseListen, type ListenAddress } from './listen.js';
import { nearest } from './suggest.js';
import { formatDuration, formatSize, parseDuration, parseSize } from './units.js';

/** `sun_path` has 104 bytes on macOS, a NUL at the end included; 108 on Linux. */
const MAX_SOCKET_PATH_BYTES = 103;

interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** An error function for zod: the expected value, and the value in the file. */
function expected(what: string): (issue: { readonly input?: unknown }) => string {
  return (issue) => `expected ${what}, got ${showValue(issue.input)}`;
}

/** A map with these keys and no others. */
export function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'invalid_type') return undefined;
      const advice = issue.input === null ? '; leave out the key for its defaults' : '';
      return `${expected(`a map (keys: ${Object.keys(shape).join(', ')})`)(issue)}${advice}`;
    },
  });
}

export function list<Item extends z.ZodType>(item: Item, what: string, min = 0) {
  return z
    .array(item, { error: expected(`a list of ${what}`) })
    .min(min, `expected one or more ${what}, got an empty list`);
}

export function text(pattern: RegExp, what: string) {
  const error = expected(what);
  return z.string({ error }).regex(pattern, { error });
}

export function wholeNumber({ min, max }: Bounds) {
  const error = expected(`a whole number from ${min} to ${max}`);
  // Not z.int: its failure keeps zod from running the checks of the maps around it.
  return z
    .number({ error })
    .refine((value) => Number.isInteger(value) && value >= min && value <= max, { error });
}

export function flag() {
  return z.boolean({ error: expected('true or false') });
}

/** One of a few words. */
export function choice<const Words extends readonly [string, ...string[]]>(words: Words) {
  return z.enum(words, {
    error: (issue) => {
      const near = typeof issue.input === 'string' ? nearest(issue.input, words) : undefined;
      const advice = near === undefined ? '' : `; did you mean ${near}?`;
      return `${expected(`one of ${words.join(', ')}`)(issue)}${advice}`;
    },
  });
}

/** A duration in words → milliseconds. */
export function duration({ min, max }: Bounds) {
  return measure('a duration', parseDuration, formatDuration, { min, max });
}

/** A size in words, or a number of bytes → bytes. */
export function size({ min, max }: Bounds) {
  return measure('a size', parseSize, formatSize, { min, max });
}

function measure(
  what: string,
  parse: (value: unknown) => number,
  format: (value: number) => string,
  { min, max }: Bounds,
) {
  return converted((value) => {
    let amount: number;
    try {
      amount = parse(value);
    } catch (error) {
      return { reason: errorMessage(error) };
    }
    if (amount >= min && amount <= max) return { amount };
    return { reason: `expected ${what} from ${format(min)} to ${format(max)}, got ${showValue(value)}` };
  }).transform(({ amount }) => amount);
}

/** Any value → the result of `convert`, or its reason for rejecting the value. */
function converted<Result extends object>(convert: (value: unknown) => Result | { readonly reason: string }) {
  return z.unknown().transform((value, context): Exclude<Result, { readonly reason: string }> => {
    const result = convert(value);
    if (!('reason' in result)) return result as Exclude<Result, { readonly reason: string }>;
    context.addIssue({ code: 'custom', message: result.reason, input: value });
    return z.NEVER;
  });
}

export const listen = converted<ListenAddress>(parseListen);

const pathOf = (what: string) => text(/^\/[^\p{Cc}]*$/u, what).transform(trimPath);

export const absolutePath = pathOf('an absolute path');

/** `services.drover.guest.image` has two words more, for which Nix has put a path into the file. */
export const imagePath = pathOf(
  "the absolute path of an image's manifest.json (release and build are words of the Nix modules)",
);

/**
 * A path that Drover passes on to Nix and mount: some versions of Nix start the socket door's program through a shell,
 * others split its name at spaces, and overlayfs ends an option at a comma.
 */
export const plainPath = absolutePath.refine((path) => /^[\p{L}\p{N}/._+@=:~%-]*$/u.test(path), {
  error: ({ input }) =>
    `expected a path of letters, digits and . _ - + @ = : ~ %, which needs no quoting anywhere, got ${showValue(input)}`,
});

export const socketPath = plainPath.superRefine((path, context) => {
  const message = socketPathProblem(path, 'choose a shorter one');
  if (message !== undefined) context.addIssue({ code: 'custom', message, input: path });
});

/** Without `.`, `..`, doubled or trailing slashes. */
function trimPath(path: string): string {
  const normal = normalize(path);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

/** The reason why a Unix socket cannot have this path, ending with `advice`; undefined if it can. */
export function socketPathProblem(path: string, advice: string): string | undefined {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return undefined;
  return (
    `the socket's path ${path} has ${bytes} bytes, ` +
    `more than the ${MAX_SOCKET_PATH_BYTES} of a Unix socket; ${advice}`
  );
}
