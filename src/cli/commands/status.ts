import type { Command } from 'commander';

import { fetchStatus } from '../../control/client.js';
import { readConfig, type AddCommand } from '../context.js';
import { renderStatus } from '../render.js';

export const addStatus: AddCommand = (program, context) => {
  program
    .command('status')
    .description('show guests, builds, and how much was shared')
    .option('--json', 'print JSON')
    .action(async ({ json }: { json?: true }, command: Command) => {
      const status = await fetchStatus((await readConfig(command, context)).stateDir);
      context.print(json === true ? `${JSON.stringify(status, undefined, 2)}\n` : renderStatus(status));
    });
};
