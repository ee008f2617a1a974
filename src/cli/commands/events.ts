import type { Command } from 'commander';

import { controlClient, type AddCommand } from '../context.js';

export const addEvents: AddCommand = (program, context) => {
  program
    .command('events')
    .description('print what has happened lately, as lines of JSON')
    .option('-f, --follow', 'print what happens from now on instead, until interrupted')
    .action(async ({ follow }: { follow?: true }, command: Command) => {
      const client = await controlClient(command, context);
      if (follow !== true) {
        for (const event of await client.recentEvents()) context.print(line(event));
        return;
      }
      const events = await client.followEvents();
      await context.printAll(
        (async function* () {
          for await (const event of events) yield line(event);
        })(),
      );
    });
};

function line(event: object): string {
  return `${JSON.stringify(event)}\n`;
}
