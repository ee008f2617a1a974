import type { Command } from 'commander';

import { wholeLines } from '../../lib/whole-lines.js';
import { controlClient, type AddCommand } from '../context.js';

export const addLogs: AddCommand = (program, context) => {
  program
    .command('logs')
    .description('print the log of a build, or the console of a guest')
    .argument('<build|guest>', 'its id, such as b1842 or g7')
    .option('-f, --follow', 'wait for more, until the build or the guest ends')
    .option('--raw', 'print the bytes as they are, terminal escapes included')
    .action(async (id: string, { follow, raw }: { follow?: true; raw?: true }, command: Command) => {
      const log = await (await controlClient(command, context)).log(id, follow === true);
      await context.printAll(raw === true ? log : wholeLines(log));
    });
};
