import { z } from 'zod';

import type { ProgramRequest } from '../guest/program.js';
import { DroverError } from '../lib/errors.js';
import type { KeptBuild } from '../pool/lease.js';
import type { GuestHold } from '../pool/lease.js';
import type { HeldProgram } from './program-server.js';

const MAX_CELLS = 10_000;
const cells = z.number().int().min(0).max(MAX_CELLS);

/** A person's terminal; null: there are pipes. */
export const terminalSchema = z
  .object({ columns: cells, rows: cells, type: z.string().regex(/^[\w.+-]{1,64}$/) })
  .nullable();
export type TerminalRequest = z.infer<typeof terminalSchema>;

const shellSchema = z.object({ terminal: terminalSchema });
export type ShellRequest = z.infer<typeof shellSchema>;

/** @throws DroverError `CONTROL_FAILED` */
export function parseRequest<T>(schema: z.ZodType<T>, request: unknown): T {
  const { success, data, error } = schema.safeParse(request);
  if (success) return data;
  const { path = [], message = '' } = error.issues[0] ?? {};
  throw new DroverError('CONTROL_FAILED', `The request is malformed: ${path.join('.')}: ${message}`, {
    hint: 'Client and supervisor may be of different versions.',
  });
}

/** A command line with the terminal's type in its environment. */
export function onTerminal(argv: readonly string[], terminal: TerminalRequest): ProgramRequest {
  if (terminal === null) return { argv, terminal: undefined };
  return { argv: ['env', `TERM=${terminal.type}`, ...argv], terminal };
}

/** Starts a shell in a guest. @param enter holds the guest */
export async function openShell(request: unknown, enter: () => GuestHold): Promise<HeldProgram> {
  const { terminal } = parseRequest(shellSchema, request);
  return await startShell(enter(), onTerminal(['drover-guest', 'shell'], terminal));
}

/** Starts a shell in the directory of a failed build, as its user. */
export async function openBuildShell(
  request: unknown,
  { hold, kept: { build, directory, builder } }: { readonly hold: GuestHold; readonly kept: KeptBuild },
): Promise<HeldProgram> {
  try {
    const { terminal } = parseRequest(shellSchema, request);
    return await startShell(hold, onTerminal(['drover-guest', 'enter', directory, builder, build], terminal));
  } catch (error) {
    hold[Symbol.dispose]();
    throw error;
  }
}

async function startShell(hold: GuestHold, request: ProgramRequest): Promise<HeldProgram> {
  try {
    const program = await hold.start(request);
    return {
      program,
      lost: hold.lost,
      [Symbol.asyncDispose]: () => {
        program.close();
        hold[Symbol.dispose]();
        return Promise.resolve();
      },
    };
  } catch (error) {
    hold[Symbol.dispose]();
    throw error;
  }
}
