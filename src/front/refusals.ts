import { DroverError } from '../lib/errors.js';
import { printable } from '../lib/printable.js';
import { opName } from '../protocol/operations.js';
import { encodeErrorFrame } from '../protocol/stderr.js';
import { auditedClient } from './audit.js';
import type { SessionContext } from './context.js';

/** Why something is not done for a client, and what it can do instead: two sentences without their full stops. */
export interface Refusal {
  readonly why: string;
  readonly advice: string;
}

/** Name of an operation for people. */
function nameOf(op: number): string {
  return opName(op) ?? `Operation ${op}`;
}

/** Text of a refusal for the client. */
function refusalText(op: number, { why, advice }: Refusal): string {
  return `drover: ${nameOf(op)} is refused: ${why}.\n${advice}.`;
}

/** Answers a request with an error, as a nix-daemon does: the session goes on. */
export async function refuse(context: SessionContext, op: number, refusal: Refusal): Promise<void> {
  noteRefusal(context, op, refusal.why);
  await context.client.write(encodeErrorFrame(refusalText(op, refusal)));
}

/** Refuses a request that has no known end, so that the session ends with it: to be thrown. */
export function refusedForGood(context: SessionContext, op: number, { why, advice }: Refusal): DroverError {
  noteRefusal(context, op, why);
  return new DroverError('OPERATION_REFUSED', `${nameOf(op)} is refused: ${why}.`, { hint: `${advice}.` });
}

/** Reports a refusal to observers, once for each operation of a session. */
function noteRefusal(context: SessionContext, op: number, reason: string): void {
  const operation = nameOf(op);
  if (context.noted.has(operation)) return;
  context.noted.add(operation);
  const { id: session, identity, audit, events, log } = context;
  log.info({ operation, reason }, 'operation refused');
  events.emit({ type: 'operation-refused', session, domain: identity.domain, operation, reason });
  audit?.record({ type: 'refusal', ...auditedClient(session, identity), operation, reason });
}

/** The advice for whatever only a trusted client may do. */
export function trustAdvice(name: string): string {
  return `To allow it, set trusted for the client ${printable(name)} in doors.ssh.clients: that makes it root on the Drover host`;
}

/** Refused to every client: repairing replaces a path that other builds may be reading. */
export const REPAIR: Refusal = {
  why: 'nothing is repaired through a door, since guests share their paths with the host',
  advice: 'To repair a path, run nix-store --repair-path on the Drover host, without --store',
};

/**
 * The error for a derivation whose system is not built here.
 * @param systems the supported ones
 * @returns undefined if the system is one of them
 */
export function unsupportedSystem(platform: string, systems: readonly string[]): string | undefined {
  if (platform === 'builtin' || systems.includes(platform)) return undefined;
  return (
    `drover: this derivation is for ${printable(platform)}, and guests here build ${systems.join(', ')}\n` +
    'Take the system out of the machines file, or add a builder for it.'
  );
}
