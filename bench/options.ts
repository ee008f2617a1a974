import { execFileSync } from 'node:child_process';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';

const MB = 1_000_000;

export const SCENARIOS = ['input', 'growth', 'graph', 'output', 'cold', 'idle'] as const;
export type ScenarioName = (typeof SCENARIOS)[number];

export interface Options {
  readonly quick: boolean;
  readonly rounds: number;
  /** Directory of the Nix programs that all contenders use, on both ends. */
  readonly nix: string;
  readonly only: readonly ScenarioName[];
  readonly inputBytes: number;
  /** The smallest and the largest input that Drover alone is given. */
  readonly growthBytes: readonly [number, number];
  readonly inputFiles: number;
  readonly outputBytes: number;
  readonly leaves: number;
  /** Log level of the supervisors, whose logs are kept where it is not `info`. */
  readonly logLevel: string;
  /** Further arguments of the node that runs the supervisors, such as --cpu-prof. */
  readonly nodeArgs: readonly string[];
}

export const USAGE = `usage: npm run bench -- [--quick] [--rounds N] [--nix DIR] [--only SCENARIO,...]
  --quick           2 rounds, smaller inputs and outputs: shows that it works, not how fast
  --rounds N        how often each is measured; medians are shown (5)
  --nix DIR         the Nix programs to use on all ends (default: those on PATH)
  --only SCENARIO   ${SCENARIOS.join(', ')}
  --log-level L     of the supervisors; from debug on, their logs go to bench/results
  --node-arg ARG    for the node that runs the supervisors, such as --node-arg=--cpu-prof
`;

/** @throws Error whose message is for the user */
export function readOptions(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      nix: { type: 'string' },
      only: { type: 'string' },
      'log-level': { type: 'string', default: 'info' },
      'node-arg': { type: 'string', multiple: true, default: [] },
    },
  });
  const { quick } = values;
  const rounds = Number(values.rounds ?? (quick ? 2 : 5));
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error('--rounds: expected a whole number of at least 1');
  const only = values.only?.split(',') ?? SCENARIOS;
  for (const name of only) {
    if (!SCENARIOS.some((known) => known === name)) {
      throw new Error(`--only: there is no ${name}; there are ${SCENARIOS.join(', ')}`);
    }
  }
  return {
    quick,
    rounds,
    nix: values.nix ?? nixOnPath(),
    only: SCENARIOS.filter((name) => only.includes(name)),
    inputBytes: (quick ? 30 : 300) * MB,
    growthBytes: quick ? [3 * MB, 300 * MB] : [30 * MB, 3_000 * MB],
    inputFiles: 5_000,
    outputBytes: (quick ? 100 : 1_000) * MB,
    leaves: quick ? 20 : 100,
    logLevel: values['log-level'],
    nodeArgs: values['node-arg'],
  };
}

function nixOnPath(): string {
  try {
    return dirname(execFileSync('sh', ['-c', 'command -v nix-store'], { encoding: 'utf8' }).trim());
  } catch {
    throw new Error('nix-store is not on PATH; name its directory with --nix');
  }
}
