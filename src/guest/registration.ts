import { formatContentAddress } from '../protocol/content-address.js';
import { parseHash } from '../protocol/hash.js';
import type { ValidPathInfo } from '../protocol/path-info.js';

/** Nix's database has the signatures of a path in one text, with spaces between them. */
const SIGNATURE = /^[\x21-\x7e]+$/;

/**
 * The text that `nix-store --load-db` reads: for each path its name, the NAR's hash in base 16, the NAR's size in
 * bytes, the deriver (or an empty line), the number of references, and the references; a line each
 * (`decodeValidPathInfo` in Nix's store-api.cc).
 */
export function formatDump(infos: readonly ValidPathInfo[]): string {
  return lines(
    infos.flatMap(({ path, narHash, narSize, deriver = '', references }) => [
      ...[path, narHash, narSize, deriver, references.length],
      ...references,
    ]),
  );
}

/**
 * The input of `drover-guest register`: SQL for Nix's database (`schema.sql` and `addValidPath` in Nix, unchanged since
 * 2.0), with comments in front. Each path has one, `--p PATH`. Of derivations Nix's database also has their outputs,
 * which Nix reads from the file: if there are any, the first line is `--derivations`, and the lines of `formatDump`
 * are comments, too, `--d LINE`.
 * @param infos references before referrers
 */
export function formatRegistration(infos: readonly ValidPathInfo[]): string {
  const hasDerivations = infos.some(({ path }) => path.endsWith('.drv'));
  return lines([
    hasDerivations ? '--derivations' : '--',
    ...infos.map(({ path }) => `--p ${path}`),
    ...(hasDerivations ? formatDump(infos).trimEnd().split('\n') : []).map((line) => `--d ${line}`),
    '.timeout 60000',
    'PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON; BEGIN IMMEDIATE;',
    ...infos.flatMap((info) => sqlOf(info)),
    // Nothing before it was cut off.
    "COMMIT; SELECT 'registered';",
  ]);
}

/** Fails in the guest if it lacks one of the references. */
function sqlOf(info: ValidPathInfo): string[] {
  const {
    path,
    narHash,
    narSize,
    registrationTime,
    ultimate,
    contentAddress,
    deriver = '',
    references,
  } = info;
  const signatures = info.signatures.filter((signature) => SIGNATURE.test(signature));
  const fields = {
    hash: sqlText(`sha256:${parseHash(narHash, 'sha256').digest.toString('hex')}`),
    registrationTime,
    deriver: sqlText(deriver),
    narSize,
    ultimate: ultimate ? 1 : 'NULL',
    sigs: sqlText(signatures.join(' ')),
    ca: sqlText(formatContentAddress(contentAddress)),
  };
  const names = Object.keys(fields);
  const values = Object.values(fields).join(', ');
  const update = names.map((name) => `${name} = excluded.${name}`).join(', ');
  const self = `SELECT id FROM ValidPaths WHERE path = ${sqlText(path)}`;
  const rows = references.map((reference) => `(${sqlText(reference)})`).join(', ');
  return [
    `INSERT INTO ValidPaths (path, ${names.join(', ')}) VALUES (${sqlText(path)}, ${values}) ON CONFLICT (path) DO UPDATE SET ${update};`,
    `DELETE FROM Refs WHERE referrer = (${self});`,
    ...(references.length === 0
      ? []
      : [
          `INSERT INTO Refs (referrer, reference) SELECT (${self}), (SELECT id FROM ValidPaths WHERE path = column1) FROM (VALUES ${rows});`,
        ]),
  ];
}

/** A text in which nothing but quotes has a meaning: no line ends in it. */
function sqlText(text: string): string {
  return text === '' ? 'NULL' : `'${text.replaceAll("'", "''")}'`;
}

function lines(values: readonly (string | number)[]): string {
  return values.map((value) => `${value}\n`).join('');
}
