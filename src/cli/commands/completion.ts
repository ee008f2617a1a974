import { Argument } from 'commander';

import { completionScript, SHELLS, type Shell } from '../completion.js';
import type { AddCommand } from '../context.js';
import { referenceOf } from '../reference.js';

export const addCompletion: AddCommand = (program, context) => {
  program
    .command('completion')
    .description('print a script that completes command lines of drover')
    .addArgument(new Argument('<shell>', 'the shell that reads it').choices(SHELLS))
    .action((shell: Shell) => {
      context.print(completionScript(shell, referenceOf(program)));
    });
};
