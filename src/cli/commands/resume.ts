import type { Command } from 'commander';

import { controlClient, type AddCommand } from '../context.js';

export const addResume: AddCommand = (program, context) => {
  program
    .command('resume')
    .description('boot guests again after drover drain --all')
    .action(async (_options: object, command: Command) => {
      await (await controlClient(command, context)).resume();
    });
};
