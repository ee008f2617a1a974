import type { Command } from 'commander';

import { configFile, readConfig, type AddCommand } from '../context.js';

export const addServe: AddCommand = (program, context, setExitCode) => {
  program
    .command('serve')
    .description('run the supervisor until it is told to stop: SIGTERM drains, a second one kills')
    .action(async (_options: object, command: Command) => {
      const file = configFile(command, context);
      const load = () => readConfig(command, context);
      setExitCode(await context.serve(await load(), file, load));
    });
};
