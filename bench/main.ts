import { execFileSync } from 'node:child_process';
import { mkdir, statfs, writeFile } from 'node:fs/promises';
import { cpus, freemem, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { bootVerdicts, verdicts } from './bars.js';
import { runCommand } from './command.js';
import { measureBoots, type Boots, type Cold } from './boots.js';
import { startClassicNamespace } from './contenders/classic-namespace.js';
import { startClassicVm } from './contenders/classic-vm.js';
import { Drover, type DroverOptions } from './contenders/drover.js';
import {
  exactStoreVerdicts,
  measureExactStore,
  renderExactStore,
  type ExactStoreSamples,
} from './exact-store.js';
import { localBuild } from './contenders/local.js';
import { historyRows, historyVerdicts, measureHistory, type HistorySamples } from './history.js';
import { Host } from './host.js';
import { InputTree } from './inputs.js';
import { runInNamespace } from './namespace.js';
import { hostArchitecture, readOptions, USAGE, type Options, type ScenarioName } from './options.js';
import { measurePlanner, plannerVerdicts, renderPlanner } from './planner.js';
import { renderBoots, renderMedians, renderTable, renderVerdicts } from './report.js';
import { measureIdle, runRound, type Bench } from './round.js';
import { Samples, type Measure } from './samples.js';
import { deleteOwnPaths } from './store.js';
import { prepareVms } from './vms.js';

/** This file is compiled to `dist/bench/bench`. */
const PACKAGE_DIR = fileURLToPath(new URL('../../..', import.meta.url));
/** Where `npm run bench` has put a modern Nix. */
const MODERN_NIX = join(PACKAGE_DIR, '.cache/nix-forky/bin');
const RESULTS_DIR = join(PACKAGE_DIR, 'bench/results');

/** Scenarios that are not part of a round. */
const OWN_ROUNDS: readonly ScenarioName[] = ['boots', 'planner', 'history', 'exact-store'];

function facts(options: Options): Record<string, unknown> {
  return {
    date: new Date().toISOString(),
    load: loadavg(),
    processors: cpus().map(({ model }) => model),
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    nix: execFileSync(join(options.nix, 'nix-store'), ['--version'], { encoding: 'utf8' }).trim(),
    options,
  };
}

/** Shrinks the largest input if two copies do not fit on the disk and in the page cache. */
async function fit(options: Options): Promise<Options> {
  // Nix may never have run on this machine.
  await mkdir('/nix/store', { recursive: true });
  const { bavail, bsize } = await statfs('/nix/store');
  const room = Math.floor(Math.min((bavail * bsize) / 8, freemem() / 2) / 1e6) * 1e6;
  const [small, large] = options.growthBytes;
  return { ...options, growthBytes: [small, Math.max(small, Math.min(large, room))] };
}

function growthMeasure(bytes: number): Measure {
  return `input: new, ${bytes / 1e6} MB`;
}

async function bench(options: Options, dir: string): Promise<boolean> {
  const { nix, logLevel, nodeArgs, architecture, only } = options;
  const [firstKernel, ...otherKernels] = options.kernels;
  const vms =
    options.driver === 'qemu' ? await prepareVms(PACKAGE_DIR, dir, architecture, firstKernel) : undefined;
  const host = await Host.create(dir, {
    nix,
    expressions: join(PACKAGE_DIR, 'bench/derivations.nix'),
    system: `${architecture}-linux`,
    busybox: vms?.busybox ?? '/bin/busybox',
  });
  const views =
    vms !== undefined && only.includes('exact-store') && architecture === hostArchitecture()
      ? await measureExactStore(host, vms, options.rounds)
      : undefined;
  const common = { program: join(PACKAGE_DIR, 'dist/main.js'), logLevel, nodeArgs, vms };
  const coldOptions = { ...common, name: 'cold', idleTimeout: '0s' };
  const cold = await Drover.start(host, coldOptions);
  const others = only.includes('boots')
    ? await startOthers(host, dir, coldOptions, options, otherKernels)
    : [];
  const colds = [{ kernel: firstKernel, drover: cold }, ...others];
  const boots = only.includes('boots') ? await measureBoots(host, colds, options.boots) : undefined;
  for (const { drover } of others) await drover.stop();
  const samples = new Samples();
  await mkdir(RESULTS_DIR, { recursive: true });
  const history = only.includes('history')
    ? await measureHistory(host, PACKAGE_DIR, common, options)
    : undefined;
  if (only.some((name) => !OWN_ROUNDS.includes(name))) {
    const run = await prepareRounds(host, options, samples);
    const local = await localBuild(host);
    for (let round = 0; round < options.rounds; round++) {
      process.stderr.write(`round ${round + 1} of ${options.rounds}\n`);
      const classic = await (vms === undefined ? startClassicNamespace(host) : startClassicVm(host, vms));
      const drover = await Drover.start(host, { ...common, name: 'warm', idleTimeout: '5m' });
      await runRound(run, { local, classic, drover, cold }, round);
      if (only.includes('idle')) await measureIdle(run, drover, cold);
      await drover.stop();
      await classic.stop();
      await deleteOwnPaths(dir, nix, [host.busybox]);
      if (logLevel !== 'info') await writeFile(join(RESULTS_DIR, `supervisor-${round + 1}.log`), drover.log);
    }
  }
  await cold.stop();
  await host.forget();
  const kind = {
    growth: growthMeasures(options),
    driver: options.driver,
    emulated: vms?.accelerator === 'tcg',
  };
  // Bars apply to the sizes without --quick.
  const bars = options.quick
    ? []
    : [
        ...(samples.measures.length === 0 ? [] : verdicts(samples, kind)),
        ...(boots ?? []).flatMap((each) => bootVerdicts(each, kind)),
        ...(history === undefined ? [] : historyVerdicts(history)),
        ...(views === undefined ? [] : exactStoreVerdicts(views)),
      ];
  await report({ ...facts(options), accelerator: vms?.accelerator, samples, boots, history, views, bars });
  return bars.every(({ met }) => met !== false);
}

/** Supervisors whose guests have other kernels than the first one. */
async function startOthers(
  host: Host,
  dir: string,
  common: DroverOptions,
  { architecture }: Options,
  kernels: Options['kernels'][number][],
): Promise<Cold[]> {
  const colds: Cold[] = [];
  for (const kernel of kernels) {
    const vms = await prepareVms(PACKAGE_DIR, dir, architecture, kernel);
    colds.push({ kernel, drover: await Drover.start(host, { ...common, name: `cold-${kernel}`, vms }) });
  }
  return colds;
}

async function prepareRounds(host: Host, options: Options, samples: Samples): Promise<Bench> {
  const tree = (bytes: number): Promise<InputTree> => InputTree.create(host, bytes, options.inputFiles);
  const measures = growthMeasures(options);
  const growth = [];
  for (const [index, bytes] of options.only.includes('growth') ? options.growthBytes.entries() : []) {
    growth.push({ measure: measures[index] ?? measures[0], tree: await tree(bytes) });
  }
  return { host, options, samples, input: await tree(options.inputBytes), growth };
}

function growthMeasures({ growthBytes: [small, large] }: Options): [Measure, Measure] {
  return [growthMeasure(small), growthMeasure(large)];
}

interface Result {
  /** Accelerator of the VMs; undefined: guests are namespaces. */
  readonly accelerator: string | undefined;
  readonly samples: Samples;
  readonly boots: readonly Boots[] | undefined;
  readonly history: HistorySamples | undefined;
  readonly views: ExactStoreSamples | undefined;
  readonly bars: ReturnType<typeof verdicts>;
}

async function report(result: Result): Promise<void> {
  const file = join(RESULTS_DIR, `${new Date().toISOString().replaceAll(/[:.]/g, '-')}.json`);
  await writeFile(file, `${JSON.stringify(result, undefined, 2)}\n`);
  const { samples, boots, history, views, bars } = result;
  const tables = [
    ...(samples.measures.length === 0 ? [] : [renderMedians(samples)]),
    ...(boots === undefined ? [] : [renderBoots(boots)]),
    ...(history === undefined ? [] : [renderTable(historyRows(history))]),
    ...(views === undefined ? [] : [renderExactStore(views)]),
    ...(bars.length === 0 ? [] : [renderVerdicts(bars)]),
    `all samples: ${file}`,
  ];
  process.stdout.write(`${tables.join('\n\n')}\n`);
}

async function main(argv: readonly string[], options: Options): Promise<number> {
  const dir = process.env['DROVER_BENCH_DIR'];
  if (dir === undefined && options.only.includes('planner')) {
    const samples = measurePlanner(PACKAGE_DIR);
    const bars = plannerVerdicts(samples);
    process.stdout.write(`${renderPlanner(samples)}\n\n${renderVerdicts(bars)}\n`);
    if (options.only.length === 1) return bars.every(({ met }) => met !== false) ? 0 : 1;
  }
  if (dir === undefined) return await runInNamespace(fileURLToPath(import.meta.url), argv, options.nix);
  return (await bench(await fit(options), dir)) ? 0 : 1;
}

// Every process that the benchmark starts ends with this one.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  if (process.env['DROVER_BENCH_DIR'] !== undefined) process.on(signal, () => process.exit(130));
}
const argv = process.argv.slice(2);
process.exitCode = await runCommand(
  {
    name: 'bench',
    usage: USAGE,
    read: (words) => readOptions(words, MODERN_NIX),
    run: (options) => main(argv, options),
  },
  argv,
);
