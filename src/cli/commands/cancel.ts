import type { Command } from 'commander';

import { controlClient, type AddCommand } from '../context.js';

export const addCancel: AddCommand = (program, context) => {
  program
    .command('cancel')
    .description('end a build; its client is told by whom, and why')
    .argument('<build...>', 'its id, such as b1842')
    .option('--reason <text>', 'for the client')
    .action(async (ids: readonly string[], { reason }: { reason?: string }, command: Command) => {
      const client = await controlClient(command, context);
      for (const id of ids) {
        await client.cancel(id, { by: whoAmI(context.env, context.uid), reason: reason ?? null });
      }
    });
};

/** The user who types, also behind sudo. */
function whoAmI(env: NodeJS.ProcessEnv, uid: number): string {
  return env['SUDO_USER'] ?? env['USER'] ?? env['LOGNAME'] ?? `uid ${uid}`;
}
