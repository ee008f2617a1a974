import type { Command } from 'commander';

import { controlClient, jsonText, type AddCommand } from '../context.js';
import { renderBuild } from '../views/build.js';

export const addShow: AddCommand = (program, context) => {
  program
    .command('show')
    .description('show everything that is known of a build')
    .argument('<build>', 'its id, such as b1842')
    .option('--json', 'print JSON')
    .action(async (id: string, { json }: { json?: true }, command: Command) => {
      const build = await (await controlClient(command, context)).build(id);
      context.print(json === true ? jsonText(build) : renderBuild(build, Date.now(), context.screen()));
    });
};
