import type { Command } from 'commander';

import { controlClient, jsonText, type AddCommand } from '../context.js';
import { readDerivation } from '../derivation.js';
import { compare, renderComparison } from '../views/compare.js';

export const addCompare: AddCommand = (program, context) => {
  program
    .command('compare')
    .description('show what differs between two builds')
    .argument('<build>', 'id of one, such as b1842')
    .argument('<other>', 'id of the other')
    .option('--json', 'print JSON')
    .action(async (one: string, other: string, { json }: { json?: true }, command: Command) => {
      const client = await controlClient(command, context);
      const builds = [await client.build(one), await client.build(other)] as const;
      const comparison = compare(builds, [
        await readDerivation(builds[0].derivation, context.storeDir),
        await readDerivation(builds[1].derivation, context.storeDir),
      ]);
      const ids = [builds[0].id, builds[1].id] as const;
      context.print(
        json === true ? jsonText(comparison) : renderComparison(comparison, ids, context.screen()),
      );
    });
};
