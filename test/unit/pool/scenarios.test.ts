import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { z } from 'zod';

import { errorMessage } from '../../../src/lib/errors.js';
import type { PoolOptions } from '../../../src/pool/pool.js';
import { settled } from '../../support/fake-clock.js';
import { DEFAULT_OPTIONS, eventText, Harness } from './harness.js';

const DIRECTORY = join(import.meta.dirname, 'scenarios');
const behaviour = z.enum(['exit', 'hang', 'reject', 'throw']);
const reason = z.enum(['stale', 'conflict', 'lost', 'scratch']);
const options = z.record(z.string(), z.union([z.number(), z.enum(['client', 'build', 'shared'])]));
const list = z.union([z.string().transform((name) => [name]), z.array(z.string())]);

/** Schema of a step. Several keys in one step happen in this order; `expect` comes last. */
const stepSchema = z.strictObject({
  start: z.literal(true).optional(),
  /** Outcome of attempts to set a guest's clock, including one in progress. */
  clock: z.record(z.string(), z.enum(['exit', 'fail', 'hang'])).optional(),
  /** The host sleeps, or wakes, as these guests see it. */
  sleep: list.optional(),
  wake: list.optional(),
  /** Guests that are unfit for new work, and why. */
  unfit: z.record(z.string(), z.string()).optional(),
  /** Sessions that ask for a lease, and the guests that they avoid. */
  lease: list.optional(),
  avoid: list.optional(),
  domain: z.string().optional(),
  alone: z.literal(true).optional(),
  maxBuilds: z.number().optional(),
  boot: list.optional(),
  /** Boots that fail, and why. */
  fail: z.record(z.string(), z.string()).optional(),
  driverThrows: z.string().nullable().optional(),
  driverHeedsAbort: z.boolean().optional(),
  onStop: z.record(z.string(), behaviour).optional(),
  onKill: z.record(z.string(), behaviour).optional(),
  /** How guests' nix-daemons answer probes. */
  daemon: z.record(z.string(), z.enum(['answers', 'hangs', 'fails'])).optional(),
  /** How full the scratch of guests is, from 0 to 1. */
  scratch: z.record(z.string(), z.number()).optional(),
  return: list.optional(),
  retire: z.record(z.string(), reason).optional(),
  abort: list.optional(),
  /** Guests that die by themselves, and how. */
  die: z.record(z.string(), z.string()).optional(),
  advanceMs: z.number().optional(),
  /** Another configuration: its options, and whether its guests are of another generation. */
  configure: z
    .strictObject({
      options: options.prefault({}),
      generation: z.string().optional(),
    })
    .optional(),
  drain: z.literal(true).optional(),
  kill: z.literal(true).optional(),
  expect: z
    .strictObject({
      guests: z.record(z.string(), z.string()).optional(),
      sessions: z.record(z.string(), z.string()).optional(),
      /** By session that waits: how many are served before it, and why it waits. */
      places: z.record(z.string(), z.string()).optional(),
      /** `none`, or how many boots have failed in a row, and the first line of why. */
      failedBoots: z.string().optional(),
      /** Number of probes that guests were sent. */
      probes: z.record(z.string(), z.number()).optional(),
      /** All events since they were looked at last. */
      events: z.array(z.string()).optional(),
      /** Reasons of the leases' `lost` signals: null while the guest is running. */
      lost: z.record(z.string(), z.string().nullable()).optional(),
      calls: z.record(z.string(), z.array(z.string())).optional(),
      /** Times that clocks were set to, in seconds since 1970. */
      clocks: z.record(z.string(), z.array(z.number())).optional(),
      drained: z.boolean().optional(),
      booted: z.number().optional(),
    })
    .optional(),
});
type Step = z.infer<typeof stepSchema>;

const scenarioSchema = z.strictObject({
  scenario: z.string(),
  options: options.prefault({}),
  ownClock: z.boolean().prefault(true),
  steps: z.array(stepSchema),
});

class Run {
  readonly harness: Harness;
  drained = false;
  #eventsSeen = 0;

  constructor(options: z.infer<typeof scenarioSchema>['options'], ownClock: boolean) {
    this.harness = new Harness(options);
    this.harness.driver.ownClock = ownClock;
  }

  async step(step: Step): Promise<void> {
    const { pool, driver, clock } = this.harness;
    if (step.start !== undefined) pool.start();
    for (const [id, what] of entries(step.clock)) driver.guestOf(id).setClockBehaviour(what);
    for (const id of step.sleep ?? []) driver.guestOf(id).notices.emit({ kind: 'sleep' });
    for (const id of step.wake ?? []) driver.guestOf(id).notices.emit({ kind: 'wake' });
    for (const [id, why] of entries(step.unfit)) driver.guestOf(id).notices.emit({ kind: 'unfit', why });
    for (const name of step.lease ?? []) this.harness.lease(name, step);
    if (step.driverThrows !== undefined)
      driver.throws = step.driverThrows === null ? undefined : new Error(step.driverThrows);
    driver.heedsAbort = step.driverHeedsAbort ?? driver.heedsAbort;
    for (const id of step.boot ?? []) driver.bootOf(id).succeed();
    for (const [id, why] of entries(step.fail)) driver.bootOf(id).fail(driver.bootError(id, why));
    for (const [id, what] of entries(step.onStop)) driver.guestOf(id).onStop = what;
    for (const [id, what] of entries(step.onKill)) driver.guestOf(id).onKill = what;
    for (const [id, how] of entries(step.daemon)) driver.guestOf(id).daemon = how;
    for (const [id, ratio] of entries(step.scratch)) driver.guestOf(id).scratchUsedRatio = ratio;
    for (const name of step.return ?? []) void this.harness.session(name).return();
    for (const [name, why] of entries(step.retire)) this.harness.session(name).retire(why);
    for (const name of step.abort ?? []) this.harness.session(name).controller.abort(new Error('gone'));
    for (const [id, how] of entries(step.die)) driver.guestOf(id).die(how);
    if (step.configure !== undefined) {
      const { options, generation = driver.manifest.generation } = step.configure;
      pool.configure(
        { ...DEFAULT_OPTIONS, ...(options as Partial<PoolOptions>) },
        driver.ofGeneration(generation),
      );
    }
    if (step.drain !== undefined) void pool.drain().then(() => (this.drained = true));
    if (step.kill !== undefined) void pool.kill().then(() => (this.drained = true));
    await settled();
    if (step.advanceMs !== undefined) await clock.advance(step.advanceMs);
    if (step.expect !== undefined) this.#check(step.expect);
  }

  #check({
    guests,
    sessions,
    places,
    probes,
    failedBoots,
    events,
    lost,
    calls,
    clocks,
    drained,
    booted,
  }: NonNullable<Step['expect']>): void {
    const { harness } = this;
    if (guests !== undefined) expect(harness.guests()).toEqual(guests);
    for (const [name, state] of entries(sessions))
      expect([name, harness.session(name).state]).toEqual([name, state]);
    for (const [name, text] of entries(places)) {
      const { before, reason } = harness.session(name).place?.() ?? { before: NaN, reason: 'served' };
      expect([name, `${before} before: ${reason}`]).toEqual([name, text]);
    }
    if (failedBoots !== undefined) {
      const failed = harness.pool.snapshot().failedBoots;
      const text = failed === null ? 'none' : `${failed.count} failed: ${failed.last.split('\n')[0] ?? ''}`;
      expect(text).toBe(failedBoots);
    }
    for (const [id, count] of entries(probes))
      expect([id, harness.driver.guestOf(id).probes]).toEqual([id, count]);
    if (events !== undefined) {
      expect(harness.events.slice(this.#eventsSeen).map(eventText)).toEqual(events);
      this.#eventsSeen = harness.events.length;
    }
    for (const [name, how] of entries(lost)) {
      const signal = harness.session(name).lease?.guest.lost;
      expect([name, signal?.aborted === true ? errorMessage(signal.reason) : null]).toEqual([name, how]);
    }
    for (const [id, made] of entries(calls))
      expect([id, harness.driver.guestOf(id).calls]).toEqual([id, made]);
    for (const [id, times] of entries(clocks))
      expect([id, harness.driver.guestOf(id).clocks]).toEqual([id, times]);
    if (drained !== undefined) expect(this.drained).toBe(drained);
    if (booted !== undefined) expect(harness.driver.asked).toHaveLength(booted);
  }
}

function entries<T>(record: Record<string, T> | undefined): [string, T][] {
  return Object.entries(record ?? {});
}

for (const file of readdirSync(DIRECTORY).sort()) {
  describe(file, () => {
    const scenarios = z.array(scenarioSchema).parse(parse(readFileSync(join(DIRECTORY, file), 'utf8')));
    test.each(scenarios)('$scenario', async ({ options, ownClock, steps }) => {
      const run = new Run(options, ownClock);
      for (const [index, step] of steps.entries()) {
        try {
          await run.step(step);
        } catch (error) {
          (error as Error).message =
            `step ${index + 1} (${JSON.stringify(step)}):\n${(error as Error).message}`;
          throw error;
        }
      }
    });
  });
}
