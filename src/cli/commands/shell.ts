import type { Command } from 'commander';

import type { ControlClient } from '../../control/client.js';
import { DroverError } from '../../lib/errors.js';
import { attach, terminalOf } from '../attach.js';
import { controlClient, type AddCommand } from '../context.js';
import { bootGuest } from './boot.js';

export const addShell: AddCommand = (program, context, setExitCode) => {
  program
    .command('shell')
    .description('open a shell in a guest as root, or in a failed build as its user; pipes work, too')
    .argument(
      '[guest|build]',
      'g7, or b1842 of a failed build that is kept; default: the guest that runs, or a new one',
    )
    .action(async (given: string | undefined, _options: object, command: Command) => {
      const client = await controlClient(command, context);
      const guest = given ?? (await onlyGuest(client));
      const io = context.programIo();
      const terminal = terminalOf(io, context.env);
      setExitCode(await attach(await client.shell(guest, { terminal }), io, terminal, context.printError));
    });
};

/** @throws DroverError `UNKNOWN_GUEST` if there are several */
async function onlyGuest(client: ControlClient): Promise<string> {
  const { guests } = await client.status();
  const ids = guests.filter(({ state }) => state === 'ready' || state === 'leased').map(({ id }) => id);
  if (ids.length > 1)
    throw new DroverError('UNKNOWN_GUEST', 'Several guests run', {
      hint: `Name one of them: ${ids.join(', ')}.`,
    });
  return ids[0] ?? (await bootGuest(client)).guest;
}
