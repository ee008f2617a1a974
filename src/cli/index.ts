import { Command, CommanderError } from 'commander';

import { addAudit } from './commands/audit.js';
import { addCheck } from './commands/check.js';
import { addDoctor } from './commands/doctor.js';
import { addMachines } from './commands/machines.js';
import { addServe } from './commands/serve.js';
import { addStatus } from './commands/status.js';
import { EXIT } from '../lib/error-codes.js';
import type { CliContext } from './context.js';
import { exitCodeOf, renderError } from './failure.js';

/** Runs one command and reports its failure. @returns the exit status */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  let exitCode: number = EXIT.ok;
  const program = new Command('drover')
    .description(
      'Throw-away Linux builders for Nix: guests that boot when a build needs one, and are gone when it is done.',
    )
    .option(
      '--config <file>',
      `the configuration, in YAML (default: ${context.defaultConfigFile}, if it exists)`,
    )
    .version(context.version)
    .exitOverride()
    .configureOutput({ writeOut: context.print, writeErr: context.printError })
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(see drover --help)');
  for (const add of [addServe, addCheck, addStatus, addMachines, addDoctor, addAudit])
    add(program, context, (code) => {
      exitCode = code;
    });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    context.printError(renderError(error));
    return exitCodeOf(error);
  }
}
