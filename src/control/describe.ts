import { printable } from '../lib/printable.js';
import type { BuildReport } from './api.js';

/** One word, or two. */
export function resultOf({ result, succeeded, guest, waiting }: BuildReport): string {
  if (result === null) return guest === null || waiting !== null ? 'waiting' : 'running';
  return succeeded === true ? 'ok' : printable(result);
}

/** Time from the request to the end, in milliseconds; undefined while the build goes on. */
export function durationOf({ times: { asked, ended } }: BuildReport): number | undefined {
  return ended === null ? undefined : ended - asked;
}

export function waitingOf({ before, reason }: { readonly before: number; readonly reason: string }): string {
  return `${printable(reason)}${before === 0 ? '' : `; ${before} before it`}`;
}

/** Name of a derivation, without hash and `.drv`. */
export function derivationName(derivation: string): string {
  return printable(derivation.replace(/^.*\/[0-9a-z]{32}-/, '').replace(/\.drv$/, ''));
}
