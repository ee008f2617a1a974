import type { Command } from 'commander';

import { verifyAudit, type Verdict } from '../../audit/verify.js';
import { DroverError, errorMessage } from '../../lib/errors.js';
import { count } from '../../lib/human.js';
import { readConfig, type AddCommand, type CliContext } from '../context.js';

export const addAudit: AddCommand = (program, context, setExitCode) => {
  const audit = program.command('audit').description('check the audit log');
  audit
    .command('verify')
    .description('check that no record was changed, removed or inserted; exit with 1 if one was')
    .argument(
      '[file...]',
      'the log and its rotated parts, oldest first (default: audit.file of the configuration)',
    )
    .option('--json', 'print JSON')
    .option(
      '--hash <sha256>',
      'hash of a record that must be in the log, noted down earlier: shows if the end was cut off',
    )
    .action(async (files: string[], { json, hash }: { json?: true; hash?: string }, command: Command) => {
      const verdict = await verify(files.length > 0 ? files : [await configured(command, context)], hash);
      context.print(json === true ? `${JSON.stringify(verdict, undefined, 2)}\n` : render(verdict));
      if (verdict.fault !== null) setExitCode(1);
    });
};

async function configured(command: Command, context: CliContext): Promise<string> {
  const { file } = (await readConfig(command, context)).audit;
  if (file !== null) return file;
  throw new DroverError('AUDIT_UNUSABLE', 'The configuration names no audit log (audit.file)', {
    hint: 'Name the files to check: drover audit verify FILE…',
  });
}

async function verify(files: readonly string[], hash: string | undefined): Promise<Verdict> {
  try {
    return await verifyAudit(files, hash);
  } catch (cause) {
    throw new DroverError('AUDIT_UNUSABLE', `The audit log cannot be read: ${errorMessage(cause)}`, {
      cause,
    });
  }
}

function render({ records, from, to, head, continues, fault }: Verdict): string {
  const lines = [
    `${count(records, 'record')}${from === null || to === null ? '' : `, ${from} to ${to}`}`,
    ...(continues === null ? [] : [`continues a log after its record ${continues.seq}, ${continues.hash}`]),
    ...(fault === null
      ? [`intact; record ${head.seq} has hash ${head.hash}`]
      : [`BROKEN at ${fault.file}:${fault.line}: ${fault.reason}`]),
  ];
  return `${lines.join('\n')}\n`;
}
