import type { Command } from 'commander';

import { configFile, readConfig, type AddCommand } from '../context.js';

export const addServe: AddCommand = (program, context, setExitCode) => {
  program
    .command('serve')
    .description('run the supervisor until it is told to stop: SIGTERM drains, a second one kills')
    .action(async (_options: object, command: Command) => {
      const file = configFile(command, context);
      const config = await readConfig(command, context);
      setExitCode(await context.serve(config, file, () => readConfig(command, context, { again: true })));
    });
};
