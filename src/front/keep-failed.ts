import { stripVTControlCharacters } from 'node:util';

import { humanDuration } from '../lib/human.js';
import type { KeptBuild } from '../pool/lease.js';
import type { BasicDerivation } from '../protocol/basic-derivation.js';
import type { Seat } from './seat.js';

/** Nix's own words, in quotes of either kind. A build can print them, too, so the guest checks the directory. */
const KEPT_NOTE = /^note: keeping build directory (['"])(\/build\/[^/'"\n]{1,255}(?:\/build)?)\1\s*$/;
const VARIABLE = /^[A-Za-z_]\w*$/;

/** The directory that Nix says it keeps. */
export function keptDirectory(text: string): string | undefined {
  return KEPT_NOTE.exec(stripVTControlCharacters(text))?.[2];
}

/** The environment of a build, as shell that sets it. Variables without a name for a shell are left out. */
export function environmentOf({ env }: BasicDerivation): string {
  return [...env]
    .filter(([name]) => VARIABLE.test(name))
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`)
    .join('');
}

/** Has a seat's guest keep a build that has failed. @returns the line for its client; undefined: it is not kept */
export async function keepFailed(
  { lease, guest }: Seat,
  derivation: BasicDerivation,
  kept: Omit<KeptBuild, 'builder'>,
): Promise<string | undefined> {
  try {
    await guest.agent.keepBuild(kept.directory, environmentOf(derivation));
  } catch {
    // The directory is not one of Nix's, or the guest is lost.
    return undefined;
  }
  if (!lease.keep({ ...kept, builder: derivation.builder })) return undefined;
  const time = humanDuration(kept.keepMs).replace(/ 0[smh]$/, '');
  return `drover: kept for ${time}: drover shell ${kept.build}`;
}
