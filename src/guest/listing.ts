import type { Stats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';

import { DroverError } from '../lib/errors.js';
import { CASE_HACK_SUFFIX, HINT_DAMAGED } from './case-hack.js';

/** Files or directories that are looked at side by side: enough for the threads that node has for that. */
const AT_ONCE = 16;

/** A directory whose children are not listed yet, or a file. Names are latin1: a byte per character. */
interface Item {
  readonly path: Buffer;
  /** Name that Nix gave it. */
  readonly name: string;
  /** Name on disk. */
  readonly source: string;
  readonly isDirectory: boolean;
  readonly line: string;
}

/**
 * Lists a store path in the text form of `guest-config/exact-store/listing.h`: every name in it, with type, size and
 * link target.
 * @param caseHack whether the host's Nix undoes its case hack when it reads the path
 * @throws DroverError `PROVISION_FAILED` if a directory holds two files that Nix would give one name, or a file that is
 *   neither directory, regular file nor link; Node's error if it cannot be read
 */
export async function listPath(path: string, caseHack: boolean): Promise<string> {
  const root = await look(Buffer.from(path), '.', '.');
  const groups = [root.line];
  let level = [root].filter(({ isDirectory }) => isDirectory);
  while (level.length > 0) {
    const children = await inTurns(level, ({ path: directory }) => listDirectory(directory, caseHack));
    for (const group of children) groups.push(group.map(({ line }) => line).join(''), '\n');
    level = children.flat().filter(({ isDirectory }) => isDirectory);
  }
  return groups.join('');
}

/** Children in the order of their names' bytes. */
async function listDirectory(directory: Buffer, caseHack: boolean): Promise<Item[]> {
  const names = await readdir(directory, { encoding: 'buffer' });
  const children = await inTurns(names, async (bytes) => {
    const source = bytes.toString('latin1');
    const hack = caseHack ? source.indexOf(CASE_HACK_SUFFIX) : -1;
    const path = Buffer.concat([directory, Buffer.from('/'), bytes]);
    return await look(path, hack < 0 ? source : source.slice(0, hack), source);
  });
  children.sort((a, b) => (a.name < b.name ? -1 : 1));
  const twin = children.find(({ name }, index) => name === children[index + 1]?.name);
  if (twin !== undefined)
    throw unlistable(twin.path, 'has the name of another file, apart from the case hack');
  return children;
}

async function look(path: Buffer, name: string, source: string): Promise<Item> {
  const stats = await lstat(path);
  const words = [...(await typeAndValue(path, stats)), name, ...(source === name ? [] : [source])];
  return { path, name, source, isDirectory: stats.isDirectory(), line: `${words.map(encode).join(' ')}\n` };
}

async function typeAndValue(path: Buffer, stats: Stats): Promise<readonly [string, string]> {
  if (stats.isDirectory()) return ['d', '0'];
  if (stats.isSymbolicLink()) return ['l', (await readlink(path, { encoding: 'buffer' })).toString('latin1')];
  if (stats.isFile()) return [(stats.mode & 0o100) === 0 ? 'f' : 'x', String(stats.size)];
  throw unlistable(path, 'is neither a directory nor a file nor a link');
}

/** Printable ASCII, without space. */
function encode(word: string): string {
  return word.replaceAll(
    /[^!-$&-~]/g,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += AT_ONCE)
    results.push(...(await Promise.all(items.slice(at, at + AT_ONCE).map(work))));
  return results;
}

function unlistable(path: Buffer, why: string): DroverError {
  return new DroverError('PROVISION_FAILED', `${path.toString()} ${why}`, { hint: HINT_DAMAGED });
}
