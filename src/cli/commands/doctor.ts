import type { Command } from 'commander';

import { fetchStatus } from '../../control/client.js';
import { diagnose, type Diagnosis } from '../../doctor/doctor.js';
import { count } from '../../lib/human.js';
import { run } from '../../lib/process.js';
import type { Config } from '../../config/schema.js';
import { readConfig, type AddCommand, type CliContext } from '../context.js';
import { EXIT } from '../../lib/error-codes.js';
import { machinesLine, type MachineFacts, SSH_ALIAS } from '../machine-formats.js';

const MARKS = { ok: 'ok', warning: 'WARN', failure: 'FAIL', skipped: 'skip' } as const;

export const addDoctor: AddCommand = (program, context, setExitCode) => {
  program
    .command('doctor')
    .description('check this host, its Nix and its Drover, and say what to do about each problem')
    .option('--json', 'print JSON')
    .option('--fix', 'also do what is safe to do')
    .action(async ({ json, fix }: { json?: true; fix?: true }, command: Command) => {
      const config = await readConfig(command, context);
      const { env, uid, home, storeDir } = context;
      const results: Diagnosis[] = [];
      const diagnoses = diagnose(
        {
          ...{ config, env, uid, home, run, storeDir, platform: process.platform },
          status: await fetchStatus(config.stateDir).catch(() => undefined),
          createDriver: (other) => context.createDriver(other),
          connectProgram: context.connectProgram(config),
          socketMachine: (systems) => machinesLine('socket', { ...facts(config, context), systems }),
        },
        { repair: fix === true },
      );
      for await (const diagnosis of diagnoses) {
        results.push(diagnosis);
        if (json !== true) context.print(render(diagnosis));
      }
      if (json === true) context.print(`${JSON.stringify({ checks: results }, undefined, 2)}\n`);
      else context.print(summary(results));
      if (results.some(({ status }) => status === 'failure')) setExitCode(EXIT.failure);
    });
};

function facts(config: Config, context: CliContext): Omit<MachineFacts, 'systems'> {
  const { features } = config;
  return {
    maxJobs: 1,
    features,
    connect: context.connectProgram(config),
    ssh: undefined,
    name: SSH_ALIAS,
    identity: undefined,
  };
}

function render({ status, title, seen, fix, repaired }: Diagnosis): string {
  const mark = repaired ? 'fixed' : MARKS[status];
  const lines = [`${mark.padEnd(5)} ${title}`, `      ${seen}`];
  return [...lines, ...(fix === undefined || repaired ? [] : [`      -> ${fix}`]), ''].join('\n');
}

function summary(results: readonly Diagnosis[]): string {
  const number = (status: Diagnosis['status']): number =>
    results.filter((result) => result.status === status).length;
  return `\n${number('ok')} ok, ${count(number('warning'), 'warning')}, ${count(number('failure'), 'failure')}, ${number('skipped')} skipped\n`;
}
