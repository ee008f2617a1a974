import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { execa } from 'execa';
import { z } from 'zod';

import { DemoError } from './processes.js';

/** The format is described in demo/checks.json itself. */
const checksSchema = z.object({
  checks: z.array(
    z.object({
      package: z.string(),
      pipeline: z.array(z.array(z.string()).min(1)).min(1),
      stdin: z.string().default(''),
      stdout: z.string().optional(),
      stdoutMatches: z.string().optional(),
    }),
  ),
});

export type Check = z.infer<typeof checksSchema>['checks'][number];

export async function readChecks(file: string): Promise<readonly Check[]> {
  return checksSchema.parse(JSON.parse(await readFile(file, 'utf8'))).checks;
}

/**
 * Runs a package's programs, and compares the output of the last one.
 * @param output the package's store path
 * @returns the commands and their output, for people
 * @throws DemoError
 */
export async function runCheck(check: Check, output: string, tempDir: string): Promise<string> {
  const scratch = await mkdtemp(join(tempDir, 'check-'));
  const fill = (argument: string): string =>
    argument.replaceAll('{out}', output).replaceAll('{scratch}', scratch);
  let bytes: Uint8Array = Buffer.from(check.stdin);
  for (const [program = '', ...args] of check.pipeline) {
    const step = await execa(join(output, program), args.map(fill), {
      input: bytes,
      encoding: 'buffer',
      stripFinalNewline: false,
      reject: false,
    });
    if (step.failed)
      throw failed(check, `${program}: ${step.shortMessage ?? ''} ${Buffer.from(step.stderr).toString()}`);
    bytes = step.stdout;
  }
  const text = Buffer.from(bytes).toString();
  const right =
    check.stdout === undefined ? new RegExp(check.stdoutMatches ?? '').test(text) : text === check.stdout;
  if (!right) throw failed(check, `it printed ${JSON.stringify(text)}`);
  const command = check.pipeline
    .map(([program = '', ...args]) => [program.replace(/^.*\//, ''), ...args].join(' '))
    .join(' | ');
  return `${shorten(command)} → ${shorten(text.trim().split('\n')[0] ?? '')}`;
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function failed(check: Check, why: string): DemoError {
  return new DemoError(`The built ${check.package} does not work: ${why}`);
}
