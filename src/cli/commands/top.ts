import { setTimeout as delay } from 'node:timers/promises';

import type { Command } from 'commander';

import { controlClient, jsonText, type AddCommand } from '../context.js';
import { renderTop } from '../views/top.js';

const INTERVAL_MS = 1_000;
/** The alternate screen (ECMA-48 and xterm), so that the terminal's earlier contents come back. */
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

export const addTop: AddCommand = (program, context) => {
  program
    .command('top')
    .description('watch guests, builds, and builds that wait, with the reason; Ctrl-C ends it')
    .option('--once', 'print it once, as where the output is no terminal')
    .option('--json', 'print JSON, once')
    .action(async ({ once, json }: { once?: true; json?: true }, command: Command) => {
      const client = await controlClient(command, context);
      const picture = async (): Promise<string[]> =>
        renderTop(await client.status(), Date.now(), context.screen());
      if (json === true) {
        const { state, guests, programs, builds, queues } = await client.status();
        context.print(jsonText({ state, guests, programs, builds, queues }));
        return;
      }
      if (once === true || !context.screen().terminal) {
        context.print(`${(await picture()).join('\n')}\n`);
        return;
      }
      const first = await picture();
      const interrupted = context.interrupted();
      context.steer(ENTER);
      try {
        for (let lines = first; !interrupted.aborted; lines = await picture()) {
          // The last line stays empty: a line feed there would scroll.
          const shown = lines.slice(0, context.screen().rows - 1);
          context.steer(HOME);
          for (const line of shown) {
            context.print(line);
            context.steer(`${CLEAR_LINE}\n`);
          }
          context.steer(CLEAR_BELOW);
          await delay(INTERVAL_MS, undefined, { signal: interrupted }).catch(() => undefined);
        }
      } finally {
        context.steer(LEAVE);
      }
    });
};
