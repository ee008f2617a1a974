import { Command, CommanderError } from 'commander';

import { addAudit } from './commands/audit.js';
import { addBoot } from './commands/boot.js';
import { addCancel } from './commands/cancel.js';
import { addCheck } from './commands/check.js';
import { addCompare } from './commands/compare.js';
import { addCompletion } from './commands/completion.js';
import { addDoctor } from './commands/doctor.js';
import { addDrain } from './commands/drain.js';
import { addEvents } from './commands/events.js';
import { addHistory } from './commands/history.js';
import { addLogs } from './commands/logs.js';
import { addMachines } from './commands/machines.js';
import { addMan } from './commands/man.js';
import { addResume } from './commands/resume.js';
import { addRun } from './commands/run.js';
import { addServe } from './commands/serve.js';
import { addShell } from './commands/shell.js';
import { addShow } from './commands/show.js';
import { addStatus } from './commands/status.js';
import { addTop } from './commands/top.js';
import { addVm } from './commands/vm.js';
import { EXIT } from '../lib/error-codes.js';
import type { AddCommand, CliContext } from './context.js';
import { exitCodeOf, renderError } from './failure.js';
import { separateProgram } from './positional.js';

/** In the order of --help. */
const COMMANDS: readonly AddCommand[] = [
  ...[addServe, addCheck, addStatus, addTop, addHistory, addShow, addLogs, addCompare, addCancel],
  ...[
    addDrain,
    addResume,
    addBoot,
    addShell,
    addRun,
    addVm,
    addEvents,
    addMachines,
    addDoctor,
    addAudit,
    addCompletion,
    addMan,
  ],
];

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
  for (const add of COMMANDS)
    add(program, context, (code) => {
      exitCode = code;
    });
  try {
    await program.parseAsync(separateProgram(argv, program, 'run'), { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    context.printError(renderError(error));
    return exitCodeOf(error);
  }
}
