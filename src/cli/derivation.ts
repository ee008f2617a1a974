import { readFile } from 'node:fs/promises';

/** Longer files are not compared, in bytes. */
const MAX_BYTES = 16 * 1024 * 1024;

/** The parts of a derivation in which two can differ. */
export interface Derivation {
  readonly environment: ReadonlyMap<string, string>;
  /** Store paths that it speaks of, its own outputs excepted. */
  readonly paths: ReadonlySet<string>;
}

/** Reads a derivation of this host's store. @returns undefined if it is not there, or not what it should be */
export async function readDerivation(path: string, storeDir: string): Promise<Derivation | undefined> {
  if (!path.startsWith(`${storeDir}/`) || path.includes('/../') || !path.endsWith('.drv')) return undefined;
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.length > 0 && text.length <= MAX_BYTES ? parseDerivation(text, storeDir) : undefined;
}

const STRING = '"((?:[^"\\\\]|\\\\.)*)"';

/** The form in which Nix writes them is that of ATerm: outputs are tuples of four strings, the environment pairs. */
export function parseDerivation(text: string, storeDir: string): Derivation {
  const outputs = new Set(
    [...text.matchAll(new RegExp(`\\(${STRING},${STRING},${STRING},${STRING}\\)`, 'g'))].map(
      ([, , path = '']) => path,
    ),
  );
  const environment = new Map(
    [...text.matchAll(new RegExp(`\\(${STRING},${STRING}\\)`, 'g'))].map(([, name = '', value = '']) => [
      name,
      value,
    ]),
  );
  const quoted = [...text.matchAll(new RegExp(`${storeDir}/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+`, 'g'))];
  return { environment, paths: new Set(quoted.map(([path]) => path).filter((path) => !outputs.has(path))) };
}

/** One line for each difference: `-` only in the first, `+` only in the other, `~` in both with other contents. */
export function differences(one: Derivation, other: Derivation): string[] {
  const names = [...new Set([...one.environment.keys(), ...other.environment.keys()])].sort();
  return [
    ...names
      .filter((name) => one.environment.get(name) !== other.environment.get(name))
      .map((name) => `${sign(one.environment.has(name), other.environment.has(name))} variable ${name}`),
    ...[...one.paths].filter((path) => !other.paths.has(path)).map((path) => `- ${path}`),
    ...[...other.paths].filter((path) => !one.paths.has(path)).map((path) => `+ ${path}`),
  ];
}

function sign(inOne: boolean, inOther: boolean): string {
  return inOne && inOther ? '~' : inOne ? '-' : '+';
}
