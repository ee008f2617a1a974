import type { Command } from 'commander';

import { controlClient, jsonText, type AddCommand } from '../context.js';
import { renderStatus } from '../views/status.js';

export const addStatus: AddCommand = (program, context) => {
  program
    .command('status')
    .description('show guests, builds, and how much was shared')
    .option('--json', 'print JSON')
    .action(async ({ json }: { json?: true }, command: Command) => {
      const status = await (await controlClient(command, context)).status();
      const text = (): string => `${renderStatus(status, Date.now(), context.screen()).join('\n')}\n`;
      context.print(json === true ? jsonText(status) : text());
    });
};
