import { expect, test } from '@jest/globals';

import type { BuildEntry, BuildFacts, BuildJournal } from '../../../src/front/journal.js';
import { decodeBuildDerivation, Op } from '../../../src/protocol/operations.js';
import {
  ACTIVITY_BUILD,
  decodeStderrFrame,
  encodeStderrFrame,
  RESULT_BUILD_LOG_LINE,
} from '../../../src/protocol/stderr.js';
import { decodeBuildDerivationResponse } from '../../../src/protocol/responses.js';
import { BUILT, buildRequest } from '../../support/build-request.js';
import { BenchGuest, FrontBench, HOST_CLIENT, outcome } from '../../support/front-bench.js';
import { LAST, VERSION, type Handler } from '../../support/scripted-daemon.js';

/** Writes down what it is told. */
class Notebook implements BuildJournal {
  readonly begun: BuildFacts[] = [];
  readonly steps: string[] = [];
  /** Awaited after each line of a log. */
  disk: Promise<void> | undefined;

  begin(facts: BuildFacts): BuildEntry {
    this.begun.push(facts);
    const note = (step: string) => void this.steps.push(step);
    return {
      id: `b${41 + this.begun.length}`,
      leased: (guest, generation) => {
        note(`leased ${guest} ${generation}`);
      },
      provisioned: () => {
        note('provisioned');
      },
      started: () => {
        note('started');
      },
      used: ({ cpuSeconds }) => {
        note(`used ${cpuSeconds}`);
      },
      addLog: (line) => {
        note(`log ${line}`);
        return this.disk;
      },
      replayed: (guest) => {
        note(`replayed ${guest}`);
      },
      ended: ({ result, error }) => {
        note(`ended ${result} ${error ?? ''}`.trimEnd());
      },
      left: (relayedBytes) => {
        note(`left ${relayedBytes}`);
      },
    };
  }
}

const BUILDING = encodeStderrFrame({
  kind: 'start-activity',
  activity: { id: 7n, level: 3, type: ACTIVITY_BUILD, text: '', fields: [], parent: 0n },
});

function logLine(line: string): Buffer {
  return encodeStderrFrame({ kind: 'result', id: 7n, type: RESULT_BUILD_LOG_LINE, fields: [line] });
}

function guestThat(id: string, build: Handler): BenchGuest {
  const guest = new BenchGuest(id);
  guest.daemon.handlers.set(Op.BuildDerivation, build);
  return guest;
}

const builds: Handler = async (daemon, version) => {
  await daemon.run(decodeBuildDerivation(version));
  await daemon.write(Buffer.concat([BUILDING, logLine('one'), logLine('two'), LAST, BUILT]));
};

test('records the steps and the log of a build, under an id that events carry too', async () => {
  const journal = new Notebook();
  const bench = new FrontBench(undefined, undefined, journal);
  bench.leaser.next = () => guestThat('g1', builds);
  const { channel, served } = await bench.client();
  await channel.write(buildRequest());
  expect(await outcome(channel)).toBeUndefined();
  await channel.run(decodeBuildDerivationResponse(VERSION));
  channel.end();
  await served;
  expect(journal.begun).toMatchObject([{ system: 'x86_64-linux', client: HOST_CLIENT }]);
  expect(journal.steps).toEqual([
    ...['leased g1 test', 'provisioned', 'started', 'log one', 'log two', 'ended Built', 'left 0'],
  ]);
  expect(bench.events.filter(({ type }) => type.startsWith('build-'))).toMatchObject([
    { type: 'build-started', build: 'b42', guest: 'g1' },
    { type: 'build-finished', build: 'b42', guest: 'g1', result: 'Built' },
  ]);
});

test('tells the client the id and the guest when its build starts', async () => {
  const bench = new FrontBench(undefined, undefined, new Notebook());
  bench.leaser.next = () => guestThat('g1', builds);
  const { channel } = await bench.client();
  await channel.write(buildRequest());
  expect(await channel.run(decodeStderrFrame())).toEqual({
    kind: 'next',
    text: 'drover: build b42 in guest g1\n',
  });
});

test('records a guest that was lost, and keeps the id in the next one', async () => {
  const journal = new Notebook();
  const bench = new FrontBench(undefined, undefined, journal);
  const dying = guestThat('g1', async (daemon, version) => {
    await daemon.run(decodeBuildDerivation(version));
    dying.lose();
  });
  const guests = [dying, guestThat('g2', builds)];
  bench.leaser.next = () => guests.shift() ?? new BenchGuest('spare');
  const { channel } = await bench.client();
  await channel.write(buildRequest());
  expect(await outcome(channel)).toBeUndefined();
  expect(journal.begun).toHaveLength(1);
  expect(journal.steps.slice(0, 6)).toEqual([
    ...['leased g1 test', 'provisioned', 'replayed g1'],
    expect.stringContaining('log drover: The guest g1 was lost'),
    ...['leased g2 test', 'provisioned'],
  ]);
});

test('reads no more of a log than the journal takes', async () => {
  const journal = new Notebook();
  let release = (): void => undefined;
  journal.disk = new Promise((resolve) => {
    release = resolve;
  });
  const bench = new FrontBench(undefined, undefined, journal);
  bench.leaser.next = () => guestThat('g1', builds);
  const { channel } = await bench.client();
  await channel.write(buildRequest());
  for (let line = 0; line < 3; line++) await channel.run(decodeStderrFrame());
  expect(journal.steps.at(-1)).toBe('log one');
  release();
  expect(await outcome(channel)).toBeUndefined();
  expect(journal.steps).toContain('log two');
});
