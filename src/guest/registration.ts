import { formatContentAddress } from '../protocol/content-address.js';
import type { ValidPathInfo } from '../protocol/path-info.js';

/** Nix's database has the signatures of a path in one text, with spaces between them. */
const SIGNATURE = /^[\x21-\x7e]+$/;

/**
 * The text that `nix-store --load-db` reads: for each path its name, the NAR's hash in base 16, the NAR's size in
 * bytes, the deriver (or an empty line), the number of references, and the references; a line each
 * (`decodeValidPathInfo` in Nix's store-api.cc).
 */
export function formatRegistration(infos: readonly ValidPathInfo[]): string {
  return infos
    .map(({ path, narHash, narSize, deriver = '', references }) => {
      const referenced = references.length === 0 ? '' : `${references.join('\n')}\n`;
      return `${path}\n${narHash}\n${narSize}\n${deriver}\n${references.length}\n${referenced}`;
    })
    .join('');
}

/**
 * The fields that this text lacks, as SQL for Nix's database (`schema.sql` and `addValidPath` in Nix,
 * unchanged since 2.0): registration time, content address, signatures, and whether the path was built here.
 */
export function formatAnnotations(infos: readonly ValidPathInfo[]): string {
  if (infos.length === 0) return '';
  return lines([
    'PRAGMA busy_timeout = 60000; PRAGMA synchronous = OFF; BEGIN IMMEDIATE;',
    ...infos.map(({ path, registrationTime, ultimate, contentAddress, signatures }) => {
      const words = signatures.filter((signature) => SIGNATURE.test(signature)).join(' ');
      return `UPDATE ValidPaths SET registrationTime = ${registrationTime}, ultimate = ${ultimate ? 1 : 'NULL'}, ca = ${sqlText(formatContentAddress(contentAddress))}, sigs = ${sqlText(words)} WHERE path = ${sqlText(path)};`;
    }),
    'COMMIT;',
  ]);
}

/** A text in which nothing but quotes has a meaning: no line ends in it. */
function sqlText(text: string): string {
  return text === '' ? 'NULL' : `'${text.replaceAll("'", "''")}'`;
}

function lines(values: readonly (string | number)[]): string {
  return values.map((value) => `${value}\n`).join('');
}
