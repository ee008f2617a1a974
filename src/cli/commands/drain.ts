import type { Command } from 'commander';

import { controlClient, type AddCommand } from '../context.js';

export const addDrain: AddCommand = (program, context) => {
  program
    .command('drain')
    .description('give guests no more builds, and end them when those that run have ended')
    .argument('[guest]', 'its id, such as g7')
    .option('--all', 'all guests; builds wait until drover resume')
    .action(async (guest: string | undefined, { all }: { all?: true }, command: Command) => {
      if ((guest === undefined) !== (all === true)) {
        command.error('error: name one guest, or give --all', { exitCode: 2 });
      }
      await (await controlClient(command, context)).drain(guest);
    });
};
