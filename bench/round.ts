import { freemem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import type { ClassicBuilder } from './contenders/classic.js';
import type { Contender } from './contenders/contender.js';
import type { Drover } from './contenders/drover.js';
import type { Host } from './host.js';
import type { InputTree } from './inputs.js';
import { hostArchitecture, type Options } from './options.js';
import { runProgram, until } from './process.js';
import type { Measure, Samples } from './samples.js';

export interface Bench {
  readonly host: Host;
  readonly options: Options;
  readonly samples: Samples;
  readonly input: InputTree;
  readonly growth: readonly { readonly measure: Measure; readonly tree: InputTree }[];
}

export interface Contenders {
  readonly local: Contender;
  readonly classic: ClassicBuilder;
  readonly drover: Drover;
  /** A second supervisor whose guests end with their last build. */
  readonly cold: Drover;
}

const IDLE_SETTLE_MS = 3_000;
const IDLE_MS = 5_000;
/** V8 returns memory some seconds after a collection. */
const SHRINK_MS = 10_000;

/**
 * Measures everything once, the contenders in turns, so that a temporary slowdown of the machine affects all
 * of them.
 */
export async function runRound(bench: Bench, contenders: Contenders, round: number): Promise<void> {
  const { host, options, samples } = bench;
  const { local, classic, drover, cold } = contenders;
  const wanted = (name: Options['only'][number]): boolean => options.only.includes(name);
  // The floor is a local build on this host; guests with another processor have none.
  const locals = options.architecture === hostArchitecture() ? [local] : [];
  const all = rotate([...locals, classic.contender, drover.socket, drover.ssh], round);
  const doors = rotate([drover.socket, drover.ssh], round);
  for (const contender of all) {
    const { firstLogMs } = await contender.build(await host.instantiate('hello'));
    if (contender !== classic.contender || classic.bootMs === undefined || !wanted('cold')) continue;
    // Best case of a tool that starts its VM on demand.
    samples.add('first log line, from zero guests', 'classic', classic.bootMs + firstLogMs);
  }

  if (wanted('input')) for (const contender of all) await measureInput(bench, contender);
  if (wanted('growth')) {
    for (const { measure, tree } of bench.growth) {
      for (const door of doors) {
        const derivation = await host.instantiate('trivial', { input: await tree.fresh() });
        samples.add(measure, door.name, (await door.build(derivation)).totalMs);
      }
    }
  }
  if (wanted('graph')) {
    for (const contender of all) {
      const derivation = await host.instantiate('graph', { leaves: String(options.leaves) });
      samples.add('graph', contender.name, (await contender.build(derivation)).totalMs);
    }
  }
  if (wanted('output')) {
    for (const contender of all) {
      const derivation = await largeOutput(bench);
      await touchMemory(host, 3 * options.outputBytes);
      const { totalMs, lastLogMs } = await contender.build(derivation);
      samples.add('output', contender.name, totalMs);
      samples.add('output: after the build', contender.name, totalMs - lastLogMs);
    }
  }
  if (wanted('cold')) await measureCold(bench, all, cold);
}

/**
 * Makes this machine acquire this much memory. If it is itself a guest whose host reclaims free memory, the
 * first contender would otherwise wait for it, two seconds for 1 GB.
 */
async function touchMemory({ env }: Host, bytes: number): Promise<void> {
  await runProgram(
    process.execPath,
    ['-e', `Buffer.alloc(${Math.min(bytes, Math.floor(freemem() / 2))}, 1)`],
    env,
  );
}

async function measureInput({ host, samples, input }: Bench, contender: Contender): Promise<void> {
  const path = await input.fresh();
  const derivations = [
    await host.instantiate('trivial', { input: path }),
    await host.instantiate('trivial', { input: path }),
  ] as const;
  samples.add('input: new', contender.name, (await contender.build(derivations[0])).totalMs);
  samples.add('input: there', contender.name, (await contender.build(derivations[1])).totalMs);
}

async function measureCold(
  { host, samples }: Bench,
  warm: readonly Contender[],
  cold: Drover,
): Promise<void> {
  for (const contender of warm) {
    const { firstLogMs } = await contender.build(await host.instantiate('hello'));
    samples.add('first log line', contender.name, firstLogMs);
  }
  for (const door of [cold.socket, cold.ssh]) {
    const derivation = await host.instantiate('hello');
    await until(async () => (await cold.guests()) === 0);
    const { firstLogMs } = await door.build(derivation);
    samples.add('first log line, from zero guests', door.name, firstLogMs);
  }
}

/** Cost of an idle supervisor after work: with a waiting guest, and without guests. */
export async function measureIdle(bench: Bench, drover: Drover, cold: Drover): Promise<void> {
  const { samples } = bench;
  await sleep(IDLE_SETTLE_MS);
  const before = await drover.cpuMs();
  await sleep(IDLE_MS);
  const cpuMs = (await drover.cpuMs()) - before;
  samples.add('idle: processor ms per second', 'socket', cpuMs / (IDLE_MS / 1000));
  samples.add('idle: resident bytes', 'socket', await drover.residentBytes());
  await cold.socket.build(await largeOutput(bench));
  await until(async () => (await cold.guests()) === 0);
  await sleep(SHRINK_MS);
  samples.add('idle: resident bytes, no guest', 'socket', await cold.residentBytes());
}

async function largeOutput({ host, options }: Bench): Promise<string> {
  return await host.instantiate('output', { outputMegabytes: String(options.outputBytes / 1e6) });
}

function rotate<T>(items: readonly T[], by: number): T[] {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}
