import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import type { Architecture } from '../src/drivers/vm/image.js';

const MB = 1_000_000;
const ARCHITECTURES: readonly Architecture[] = ['x86_64', 'aarch64'];

export const SCENARIOS = [
  'input',
  'growth',
  'graph',
  'output',
  'cold',
  'idle',
  'boots',
  'planner',
  'history',
  'exact-store',
] as const;
export type ScenarioName = (typeof SCENARIOS)[number];

export const DRIVERS = ['namespace', 'qemu'] as const;
export type DriverName = (typeof DRIVERS)[number];

/** Kernels of the Debian image: Debian's own, and that of guest-config/kernel. */
export const KERNELS = ['stock', 'minimal'] as const;
export type Kernel = (typeof KERNELS)[number];

/** Sizes for namespace guests, and for guests that may be emulated. All contenders use the same. */
const SIZES = {
  namespace: { input: 300, growth: [30, 3_000], output: 1_000, leaves: 100 },
  qemu: { input: 30, growth: [3, 300], output: 100, leaves: 20 },
} as const;

export interface Options {
  readonly quick: boolean;
  readonly driver: DriverName;
  /** Architecture of the guests; only VMs can differ from the host. */
  readonly architecture: Architecture;
  readonly rounds: number;
  /** Number of consecutive cold starts, each split into phases. */
  readonly boots: number;
  /** In turns; everything else is measured with the first one. */
  readonly kernels: readonly [Kernel, ...Kernel[]];
  /** Directory of the Nix programs that all contenders use, on both ends. */
  readonly nix: string;
  readonly only: readonly ScenarioName[];
  readonly inputBytes: number;
  /** The smallest and the largest input, measured with Drover only. */
  readonly growthBytes: readonly [number, number];
  readonly inputFiles: number;
  readonly outputBytes: number;
  readonly leaves: number;
  /** Log level of the supervisors. Their logs are kept unless it is `info`. */
  readonly logLevel: string;
  /** Further arguments of the node that runs the supervisors, such as --cpu-prof. */
  readonly nodeArgs: readonly string[];
}

export const USAGE = `usage: npm run bench -- [--driver DRIVER] [--quick] [--rounds N] [--nix DIR] [--only SCENARIO,...]
  --driver DRIVER   ${DRIVERS.join(' or ')}: kind of guests, and of the classic builder (namespace; qemu for exact-store)
  --architecture A  x86_64 or aarch64, for VMs (the host's)
  --quick           2 rounds, smaller inputs and outputs: shows that it works, not how fast, and holds nothing to a bar
  --rounds N        how often each is measured; medians are shown (5)
  --boots N         cold starts in a row of the scenario boots (10)
  --kernel K,...    ${KERNELS.join(', ')}: kernels of VMs; all of them for boots, in turns, and the first one for the rest
  --nix DIR         the Nix programs to use on all ends (default: a modern Nix, got into .cache; Debian's own: /usr/bin)
  --only SCENARIO   ${SCENARIOS.join(', ')}
  --input-mb N, --output-mb N, --leaves N
                    other sizes than the driver's own (namespace: 300, 1000, 100; qemu: 30, 100, 20)
  --log-level L     of the supervisors; from debug on, their logs go to bench/results
  --node-arg ARG    for the node that runs the supervisors, such as --node-arg=--cpu-prof
`;

/**
 * @param usualNix directory of Nix programs, unless argv names another
 * @throws Error whose message is for the user
 */
export function readOptions(argv: readonly string[], usualNix: string): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      driver: { type: 'string' },
      architecture: { type: 'string' },
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      boots: { type: 'string' },
      kernel: { type: 'string', default: 'stock' },
      nix: { type: 'string' },
      only: { type: 'string' },
      'input-mb': { type: 'string' },
      'output-mb': { type: 'string' },
      leaves: { type: 'string' },
      'log-level': { type: 'string', default: 'info' },
      'node-arg': { type: 'string', multiple: true, default: [] },
    },
  });
  const { quick } = values;
  const only = (values.only?.split(',') ?? SCENARIOS).map((name) => oneOf('--only', name, SCENARIOS));
  const usualDriver = only.every((name) => name === 'exact-store') ? 'qemu' : 'namespace';
  const driver = oneOf('--driver', values.driver ?? usualDriver, DRIVERS);
  const host = hostArchitecture();
  const architecture = oneOf('--architecture', values.architecture ?? host, ARCHITECTURES);
  if (driver === 'namespace' && architecture !== host)
    throw new Error(
      `--architecture ${architecture}: guests of the namespace driver are ${host}, as this host is`,
    );
  const sizes = SIZES[driver];
  const divisor = quick ? 10 : 1;
  const megabytes = (name: 'input-mb' | 'output-mb', usual: number): number =>
    atLeastOne(`--${name}`, values[name], usual / divisor) * MB;
  return {
    quick,
    driver,
    architecture,
    rounds: atLeastOne('--rounds', values.rounds, quick ? 2 : 5),
    boots: atLeastOne('--boots', values.boots, quick ? 2 : 10),
    kernels: kernels(values.kernel, driver),
    // The planner needs no Nix, nor root.
    nix: only.every((name) => name === 'planner') ? '' : nixPrograms(values.nix ?? usualNix),
    only: SCENARIOS.filter((name) => only.includes(name)),
    inputBytes: megabytes('input-mb', sizes.input),
    growthBytes: [(sizes.growth[0] * MB) / divisor, (sizes.growth[1] * MB) / divisor],
    inputFiles: 5_000,
    outputBytes: megabytes('output-mb', sizes.output),
    leaves: atLeastOne('--leaves', values.leaves, quick ? 20 : sizes.leaves),
    logLevel: values['log-level'],
    nodeArgs: values['node-arg'],
  };
}

function kernels(text: string, driver: DriverName): Options['kernels'] {
  const [first = 'stock', ...rest] = text.split(',').map((name) => oneOf('--kernel', name, KERNELS));
  if (driver === 'namespace' && text !== 'stock')
    throw new Error(`--kernel ${text}: guests of the namespace driver have no kernel of their own`);
  return [first, ...rest];
}

function oneOf<T extends string>(option: string, value: string, all: readonly T[]): T {
  const found = all.find((known) => known === value);
  if (found === undefined) throw new Error(`${option}: unknown value ${value}; one of ${all.join(', ')}`);
  return found;
}

function atLeastOne(option: string, value: string | undefined, usual: number): number {
  const number = value === undefined ? usual : Number(value);
  if (Number.isInteger(number) && number >= 1) return number;
  throw new Error(`${option}: expected a whole number of at least 1, not ${value ?? usual}`);
}

export function hostArchitecture(): Architecture {
  return process.arch === 'arm64' ? 'aarch64' : 'x86_64';
}

function nixPrograms(dir: string): string {
  if (existsSync(join(dir, 'nix-store'))) return resolve(dir);
  throw new Error(`--nix ${dir}: there is no nix-store in this directory`);
}
