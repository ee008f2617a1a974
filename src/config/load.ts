import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { z } from 'zod';

import { errorCode, errorMessage } from '../lib/errors.js';
import { strictModesFault } from '../lib/strict-modes.js';
import { ConfigError, formatKey } from './errors.js';
import type { ConfigProblem, Position } from './errors.js';
import { configSchema } from './schema.js';
import type { Config } from './schema.js';
import { nearest } from './suggest.js';
import { readYaml } from './yaml-source.js';
import type { YamlSource } from './yaml-source.js';

const MAX_FILE_BYTES = 256 * 1024;
const NO_FILE = 'default configuration';

/** Facts that the defaults depend on. */
export interface ConfigHost {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The effective user: 0 has its state in /var/lib/drover. */
  readonly uid: number;
  /** Absolute path of the user's home directory. */
  readonly home: string;
}

/**
 * Reads and checks a configuration file of at most 256 KiB; without `file`, the defaults. Throws `ConfigError`:
 * `CONFIG_UNREADABLE`, also for a file that other users could change, or `CONFIG_INVALID` with everything that is wrong
 * with it.
 * @param options.again it has been read before; a pipe, which would tell it only once, is refused and not waited for
 */
export async function loadConfig(
  options: ConfigHost & { readonly file?: string | undefined; readonly again?: boolean },
): Promise<Config> {
  const { file, again = false } = options;
  if (file === undefined) return defaultConfig(options);
  const fault = await strictModesFault(resolve(file)).catch((error: unknown) => {
    throw unreadable(file, error);
  });
  if (fault !== undefined) throw untrusted(file, fault);
  return parseConfig(await readText(file, again), file, options);
}

/** The configuration of an empty file. Throws `ConfigError` where `host` gives no usable state directory. */
export function defaultConfig(host: ConfigHost): Config {
  return check(undefined, NO_FILE, host);
}

/** Checks the YAML `text` of a file; `fileName` is for the errors. Throws `ConfigError` (`CONFIG_INVALID`). */
export function parseConfig(text: string, fileName: string, host: ConfigHost): Config {
  return check(readYaml(text), fileName, host);
}

function check(source: YamlSource | undefined, file: string, host: ConfigHost): Config {
  const problems: ConfigProblem[] = (source?.problems ?? []).map((problem) => ({ file, ...problem }));
  const broken = source !== undefined && source.value === undefined;
  // An empty document is null, and means the same as an empty map.
  const root = source?.value?.root ?? {};
  const result = broken ? undefined : configSchema(defaultStateDir(host)).safeParse(root);
  for (const issue of result?.error?.issues ?? []) problems.push(...problemsOf(issue, file, source));
  if (result?.success === true && problems.length === 0) return result.data;
  throw new ConfigError('CONFIG_INVALID', inFileOrder(problems));
}

function defaultStateDir({ env, uid, home }: ConfigHost): string {
  if (uid === 0) return '/var/lib/drover';
  const stateHome = env['XDG_STATE_HOME'] ?? '';
  // The XDG specification: a relative path is invalid and to be ignored.
  return join(stateHome.startsWith('/') ? stateHome : join(home, '.local/state'), 'drover');
}

function problemsOf(issue: z.core.$ZodIssue, file: string, source: YamlSource | undefined): ConfigProblem[] {
  const problem = (path: readonly PropertyKey[], what: 'key' | 'value', reason: string): ConfigProblem => {
    return { file, position: source?.locate(path, what), key: formatKey(path), reason };
  };
  if (issue.code !== 'unrecognized_keys') return [problem(issue.path, 'value', issue.message)];
  return issue.keys.map((key) => problem([...issue.path, key], 'key', unknownKey(issue.path, key)));
}

function unknownKey(path: readonly PropertyKey[], key: string): string {
  const root = z.toJSONSchema(configSchema('/'), { io: 'input', unrepresentable: 'any' }) as KeyTree;
  const here = path.reduce<KeyTree>((tree, part) => keysOf(tree)[String(part)] ?? {}, root);
  const valid = Object.keys(keysOf(here));
  const near = nearest(key, valid);
  if (near !== undefined) return `unknown key; did you mean ${near}?`;
  const inSections = [...keysBelow(here, path.map(String)), ...keysBelow(root)];
  const name = nearest(
    key,
    inSections.map((keys) => keys.at(-1) ?? ''),
  );
  const home = inSections.find((keys) => keys.at(-1) === name);
  if (home !== undefined) return `unknown key; did you mean ${home.join('.')}?`;
  return `unknown key; valid keys here: ${valid.join(', ')}`;
}

/** The keys of all sections of `tree`, each with its path. */
function keysBelow(tree: KeyTree, path: readonly string[] = []): (readonly string[])[] {
  return Object.entries(keysOf(tree)).flatMap(([name, inner]) => {
    const keys = [...path, name];
    return [keys, ...keysBelow(inner, keys)];
  });
}

type Keys = Readonly<Record<string, KeyTree>>;

/** The relevant part of a JSON Schema, zod's only way to list the keys of a schema. */
interface KeyTree {
  readonly properties?: Keys;
  readonly anyOf?: readonly KeyTree[];
}

function keysOf(tree: KeyTree | undefined): Keys {
  return (
    tree?.properties ?? tree?.anyOf?.find(({ properties }) => properties !== undefined)?.properties ?? {}
  );
}

/** Sorted by position; only the first of several problems with one value. */
function inFileOrder(problems: readonly ConfigProblem[]): ConfigProblem[] {
  const seen = new Set<string>();
  const distinct = problems.filter(({ position, key, reason }) => {
    const id = `${position?.line}:${position?.column}:${key === '' ? reason : key}`;
    return !seen.has(id) && seen.add(id);
  });
  const line = ({ position }: ConfigProblem) => position?.line ?? 0;
  const column = ({ position }: ConfigProblem) => position?.column ?? 0;
  return distinct.sort((a, b) => line(a) - line(b) || column(a) - column(b));
}

async function readText(file: string, again: boolean): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    await using opened = await open(file, constants.O_RDONLY | (again ? constants.O_NONBLOCK : 0));
    if (again && !(await opened.stat()).isFile()) throw new Error('it is no longer a file');
    // One byte more than the limit shows that a file, or an endless device, exceeds it.
    for await (const chunk of opened.createReadStream({ end: MAX_FILE_BYTES, autoClose: false })) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
    }
  } catch (error) {
    throw unreadable(file, error);
  }
  const fail = (reason: string, position?: Position) =>
    new ConfigError('CONFIG_INVALID', [{ file, position, key: '', reason }]);
  if (bytes > MAX_FILE_BYTES) throw fail(`the file is larger than ${MAX_FILE_BYTES / 1024} KiB`);
  const content = Buffer.concat(chunks);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(content);
  } catch {
    throw fail('the file is not UTF-8 text', firstOdd(content));
  }
}

/** Position of the first invalid UTF-8 byte, found by re-encoding and comparing. */
function firstOdd(content: Buffer): Position {
  const again = Buffer.from(content.toString('utf8'));
  const offset = content.findIndex((byte, index) => byte !== again[index]);
  const lines = content.subarray(0, offset).toString('utf8').split('\n');
  return { line: lines.length, column: (lines.at(-1) ?? '').length + 1 };
}

function untrusted(file: string, fault: string): ConfigError {
  const reason = `Drover does what this file says, and other users could change it: ${fault}`;
  return new ConfigError('CONFIG_UNREADABLE', [{ file, position: undefined, key: '', reason }], {
    hint: 'Correct the owner and the mode: chown root, chmod go-w.',
  });
}

function unreadable(file: string, cause: unknown): ConfigError {
  const code = errorCode(cause);
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    EISDIR: 'this is a directory',
    ELOOP: 'its symbolic links form a loop',
    ENOTDIR: 'a part of its path is not a directory',
  };
  const reason = `cannot read the configuration: ${reasons[code ?? ''] ?? errorMessage(cause)}`;
  return new ConfigError('CONFIG_UNREADABLE', [{ file, position: undefined, key: '', reason }]);
}
