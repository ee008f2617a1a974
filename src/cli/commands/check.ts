import type { Command } from 'commander';

import { readConfig, type AddCommand } from '../context.js';

export const addCheck: AddCommand = (program, context) => {
  program
    .command('check')
    .description('report every mistake in the configuration; print nothing if there is none')
    .action(async (_options: object, command: Command) => {
      await readConfig(command, context);
    });
};
