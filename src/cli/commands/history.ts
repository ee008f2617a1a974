import { InvalidArgumentError, type Command } from 'commander';

import { parseDuration } from '../../config/units.js';
import { errorMessage } from '../../lib/errors.js';
import { controlClient, jsonText, type AddCommand } from '../context.js';
import { renderHistory } from '../views/build.js';

interface Options {
  readonly failed?: true;
  readonly since?: number;
  readonly limit: number;
  readonly json?: true;
}

export const addHistory: AddCommand = (program, context) => {
  program
    .command('history')
    .description('list builds, the newest first')
    .argument('[name...]', 'only builds whose name contains one of these')
    .option('--failed', 'only builds that failed')
    .option('--since <duration>', 'only builds asked for since then, such as 2h or 7d', ago)
    .option('--limit <number>', 'at most so many', wholeNumber, 30)
    .option('--json', 'print JSON')
    .action(async (names: readonly string[], { failed, since, limit, json }: Options, command: Command) => {
      const client = await controlClient(command, context);
      const now = Date.now();
      const builds = await client.builds({
        ...{ names, limit, failed: failed === true },
        ...(since === undefined ? {} : { since: now - since }),
      });
      context.print(json === true ? jsonText(builds) : renderHistory(builds, now, context.screen()));
    });
};

function ago(text: string): number {
  try {
    return parseDuration(text);
  } catch (error) {
    throw new InvalidArgumentError(errorMessage(error));
  }
}

function wholeNumber(text: string): number {
  const number = Number(text);
  if (/^\d{1,5}$/.test(text) && number > 0) return number;
  throw new InvalidArgumentError('expected a number from 1 to 99999');
}
