import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { Drover } from '../contenders/drover.js';
import { Host } from '../host.js';
import { runInNamespace } from '../namespace.js';
import { runCommand } from '../command.js';
import { hostArchitecture } from '../options.js';
import { renderTable, renderVerdicts } from '../report.js';
import { deleteOwnPaths } from '../store.js';
import { Readers } from './readers.js';
import { soakRows, soakVerdicts, type Sample } from './series.js';
import { Workload } from './workload.js';

/** This file is compiled to `dist/bench/bench/soak`. */
const PACKAGE_DIR = fileURLToPath(new URL('../../../..', import.meta.url));
const MODERN_NIX = join(PACKAGE_DIR, '.cache/nix-forky/bin');
const RESULTS_DIR = join(PACKAGE_DIR, 'bench/results');

const USAGE = `usage: npm run soak -- [--minutes N] [--rate N] [--nix DIR]
  --minutes N  how long (60)
  --rate N     clients that start in a second (1)
  --nix DIR    the Nix programs to use on all ends (default: a modern Nix, got into .cache)
`;

const SAMPLE_MS = 10_000;
/** Small, so that old builds are forgotten all the time. */
const MAX_HISTORY_MIB = 4;
const HISTORY = `{ maxBuilds: 500, maxBytes: ${MAX_HISTORY_MIB}MiB, logs: all }`;
/** Guests come and go. */
const POOL = { maxGuests: 2, maxBuilds: 100 };

const interrupted = new AbortController();

interface Options {
  readonly minutes: number;
  readonly rate: number;
  readonly nix: string;
}

function readOptions(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      minutes: { type: 'string', default: '60' },
      rate: { type: 'string', default: '1' },
      nix: { type: 'string', default: MODERN_NIX },
    },
  });
  const positive = (name: 'minutes' | 'rate'): number => {
    const number = Number(values[name]);
    if (number > 0 && number <= 10_000) return number;
    throw new Error(`--${name}: expected a number above 0, not ${values[name]}`);
  };
  return { minutes: positive('minutes'), rate: positive('rate'), nix: values.nix };
}

async function soak({ minutes, rate, nix }: Options, dir: string): Promise<boolean> {
  const host = await Host.create(dir, {
    nix,
    expressions: join(PACKAGE_DIR, 'bench/derivations.nix'),
    system: `${hostArchitecture()}-linux`,
    busybox: '/bin/busybox',
  });
  const drover = await Drover.start(host, {
    ...{ name: 'soak', program: join(PACKAGE_DIR, 'dist/main.js'), idleTimeout: '5m' },
    ...{ logLevel: 'info', nodeArgs: [], vms: undefined, history: HISTORY, pool: POOL },
  });
  const end = new AbortController();
  const workload = new Workload({ host, env: drover.socket.env, rate });
  const readers = new Readers(drover.metricsPort, end.signal);
  const samples: Sample[] = [];
  const work = [workload.run(end.signal), readers.run()];
  const sampling = sample(drover, { workload, readers, minutes }, samples);
  await Promise.race([sampling, Promise.all(work)]);
  end.abort();
  await Promise.all(work);
  await drover.stop();
  await host.forget();
  await deleteOwnPaths(dir, nix);
  return await report(samples, workload, readers);
}

interface Sampled {
  readonly workload: Workload;
  readonly readers: Readers;
  readonly minutes: number;
}

async function sample(
  drover: Drover,
  { workload, readers, minutes }: Sampled,
  samples: Sample[],
): Promise<void> {
  const begun = performance.now();
  let before = { at: begun, cpuMs: await drover.cpuMs() };
  while (performance.now() - begun < minutes * 60_000 && !interrupted.signal.aborted) {
    await sleep(SAMPLE_MS);
    const now = { at: performance.now(), cpuMs: await drover.cpuMs() };
    const taken = {
      minutes: (now.at - begun) / 60_000,
      residentBytes: await drover.residentBytes(),
      descriptors: (await readdir(`/proc/${drover.pid}/fd`)).length,
      stateBytes: await bytesIn(drover.stateDir),
      historyBytes: await bytesIn(join(drover.stateDir, 'history')),
      processor: (now.cpuMs - before.cpuMs) / (now.at - before.at),
      builds: workload.builds,
      answersMs: readers.takeAnswers(),
    };
    before = now;
    samples.push(taken);
    const [, row = []] = soakRows([taken]);
    process.stderr.write(`${row.join('  ')}\n`);
  }
}

/** Blocks that the files of a directory take, in bytes. Files may go while they are counted. */
async function bytesIn(dir: string): Promise<number> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
  const sizes = entries.map(async (entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return await bytesIn(path);
    return entry.isFile()
      ? await stat(path).then(
          ({ blocks }) => blocks * 512,
          () => 0,
        )
      : 0;
  });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

async function report(
  samples: readonly Sample[],
  { builds, surprises }: Workload,
  { failures }: Readers,
): Promise<boolean> {
  const bars = [
    ...soakVerdicts(samples, MAX_HISTORY_MIB * 1024 ** 2),
    {
      bar: 'all builds end as expected',
      measured: `${surprises.length} of ${builds} do not`,
      met: surprises.length === 0,
    },
  ];
  bars.push({
    bar: 'all questions are answered',
    measured: `${failures.length} are not`,
    met: failures.length === 0,
  });
  await mkdir(RESULTS_DIR, { recursive: true });
  const file = join(RESULTS_DIR, `soak-${new Date().toISOString().replaceAll(/[:.]/g, '-')}.json`);
  await writeFile(file, `${JSON.stringify({ samples, surprises, failures, bars }, undefined, 2)}\n`);
  const tables = [
    renderTable(soakRows(samples)),
    renderVerdicts(bars),
    ...surprises.slice(0, 3),
    `all samples: ${file}`,
  ];
  process.stdout.write(`${tables.join('\n\n')}\n`);
  return bars.every(({ met }) => met);
}

async function main(argv: readonly string[], options: Options): Promise<number> {
  const dir = process.env['DROVER_BENCH_DIR'];
  if (dir === undefined) return await runInNamespace(fileURLToPath(import.meta.url), argv, options.nix);
  return (await soak(options, dir)) ? 0 : 1;
}

// The soak ends early, and reports what it has seen. A second signal ends everything at once.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  if (process.env['DROVER_BENCH_DIR'] === undefined) break;
  process.on(signal, () => {
    if (interrupted.signal.aborted) process.exit(130);
    interrupted.abort();
  });
}
const argv = process.argv.slice(2);
process.exitCode = await runCommand(
  { name: 'soak', usage: USAGE, read: readOptions, run: (options) => main(argv, options) },
  argv,
);
