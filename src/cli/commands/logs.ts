import type { Command } from 'commander';

import { controlClient, type AddCommand } from '../context.js';

/** Characters of one line that are held to be printed at once. */
const MAX_HELD_CHARACTERS = 64 * 1024;

export const addLogs: AddCommand = (program, context) => {
  program
    .command('logs')
    .description('print the log of a build, or the console of a guest')
    .argument('<build|guest>', 'its id, such as b1842 or g7')
    .option('-f, --follow', 'wait for more, until the build or the guest ends')
    .option('--raw', 'print the bytes as they are, terminal escapes included')
    .action(async (id: string, { follow, raw }: { follow?: true; raw?: true }, command: Command) => {
      const log = await (await controlClient(command, context)).log(id, follow === true);
      await context.printAll(raw === true ? log : inLines(log));
    });
};

/** By the line, since an escape sequence may lie on both sides of where two chunks meet. */
async function* inLines(log: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let held = '';
  for await (const chunk of log) {
    held += decoder.decode(chunk, { stream: true });
    const end = held.length > MAX_HELD_CHARACTERS ? held.length : held.lastIndexOf('\n') + 1;
    if (end > 0) yield held.slice(0, end);
    held = held.slice(end);
  }
  held += decoder.decode();
  if (held !== '') yield held;
}
