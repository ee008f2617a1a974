import type { Command } from 'commander';

import type { StampedEvent } from '../../control/api.js';
import type { ControlClient } from '../../control/client.js';
import { DroverError } from '../../lib/errors.js';
import { humanDuration } from '../../lib/human.js';
import { controlClient, jsonText, type AddCommand } from '../context.js';

export const addBoot: AddCommand = (program, context) => {
  program
    .command('boot')
    .description('boot one guest now, and wait until it is ready')
    .option('--json', 'print JSON')
    .action(async ({ json }: { json?: true }, command: Command) => {
      const client = await controlClient(command, context);
      const { guest, durationMs } = await bootGuest(client);
      context.print(
        json === true ? jsonText({ guest, durationMs }) : `${guest} booted in ${humanDuration(durationMs)}\n`,
      );
    });
};

/** Boots a guest, and waits until it is ready. @throws DroverError `BOOT_FAILED` */
export async function bootGuest(
  client: ControlClient,
): Promise<{ readonly guest: string; readonly durationMs: number }> {
  const done = new AbortController();
  try {
    const events = await client.followEvents(done.signal);
    const guest = await client.boot();
    return { guest, durationMs: await booted(guest, events) };
  } finally {
    done.abort();
  }
}

/** @returns how long the boot took, in milliseconds */
async function booted(guest: string, events: AsyncIterable<StampedEvent>): Promise<number> {
  for await (const event of events) {
    if (event.type !== 'boot-finished' || event.guest !== guest) continue;
    if (event.result === 'ok') return event.durationMs;
    break;
  }
  throw bootFailed(guest);
}

function bootFailed(guest: string): DroverError {
  return new DroverError('BOOT_FAILED', `The guest ${guest} did not boot`, {
    hint: `Its console may say why: drover logs ${guest}`,
  });
}
