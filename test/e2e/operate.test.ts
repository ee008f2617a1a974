import { once } from 'node:events';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import type { BuildReport } from '../../src/control/api.js';
import { StateDir } from '../../src/lib/state-dir.js';
import { startDrover, type Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost, type NixProcess } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** The test does not wait for its end. */
const ENDLESS = 'echo "it has begun"; sleep 86399';
const HOSTILE = "printf 'title \\033]0;evil\\007\\n'; echo last; exit 3";

describeE2e('the verbs of the operator', [], () => {
  let drover: Drover;
  let host: NixHost;
  beforeAll(async () => {
    drover = await startDrover({ config: { pool: { maxGuests: 1, jobsPerGuest: 2 } } });
    host = await nixHost({ drover });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
  });

  async function ok(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await drover.cli(...args);
    expect({ args, exitCode, stderr }).toEqual({ args, exitCode: 0, stderr: '' });
    return stdout;
  }

  async function refused(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await drover.cli(...args);
    expect({ args, exitCode, stdout }).toEqual({ args, exitCode: 1, stdout: '' });
    return stderr;
  }

  async function lastBuild(): Promise<BuildReport> {
    const [build] = JSON.parse(await ok('history', '--limit', '1', '--json')) as BuildReport[];
    if (build === undefined) throw new Error('the history is empty');
    return build;
  }

  /** Starts a build that does not end by itself. @returns its id, too */
  async function startEndless(name: string): Promise<{ client: NixProcess; id: string }> {
    const client = host.startBuild(host.derivation(name, ENDLESS));
    await client.waitForOutput('it has begun');
    return { client, id: (await lastBuild()).id };
  }

  test('boot makes a guest ready before a build asks for one', async () => {
    expect(await ok('boot')).toMatch(/^g\d+ booted in /);
    expect(await refused('boot')).toContain('The pool has 1 guest of at most 1');
    expect(await ok('top')).toContain('1 of 1 guest, 0 builds, 0 waiting');
  });

  test('history, show and logs know a build that succeeded, by the id that its client saw', async () => {
    const result = await host.build(host.derivation('good', 'echo one; echo two; echo > $out'));
    succeeded(result);
    const [, id = '', guest = ''] = /drover: build (b\d+) in guest (g\d+)/.exec(result.stderr) ?? [];
    await waitUntil('the fetch', async () => (await lastBuild()).times.fetched !== null);
    const build = JSON.parse(await ok('show', id, '--json')) as BuildReport;
    expect(build).toMatchObject({
      ...{ id, result: 'Built', succeeded: true, guest, error: null },
      client: { door: 'socket', domain: 'uid:0' },
      log: { lines: 2 },
    });
    const { asked, leased, provisioned, started, ended, fetched } = build.times;
    const steps = [asked, leased, provisioned, started, ended, fetched].map((time) => time ?? NaN);
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
    expect(build.relayedBytes).toBeGreaterThan(100);
    expect(await ok('logs', id)).toBe('one\ntwo\n');
    expect(await ok('history')).toMatch(new RegExp(`^${id} +\\S+good +ok +${guest} `, 'm'));
    expect(await ok('show', id)).toContain(`${id}  `);
  });

  test('history, show and logs tell why a build failed, with nothing that a terminal would act on', async () => {
    expect((await host.build(host.derivation('bad', HOSTILE))).exitCode).not.toBe(0);
    await waitUntil('the end of its record', async () => (await lastBuild()).times.ended !== null);
    const { id, error } = await lastBuild();
    expect(error).toContain('exit code 3');
    const outputs = [await ok('logs', id), await ok('show', id), await ok('history', '--failed', 'bad')];
    expect(outputs[0]).toBe('title \\u001b]0;evil\\u0007\nlast\n');
    for (const output of outputs) expect(output).not.toMatch(/[^\P{Cc}\n\t]/u);
    expect(await ok('logs', id, '--raw')).toContain('\u001b]0;evil\u0007');
    expect(await ok('history', '--failed', 'good')).toBe('no builds\n');
  });

  test('compare names what differs', async () => {
    const [bad, good] = JSON.parse(await ok('history', '--json', '--limit', '2')) as BuildReport[];
    const text = await ok('compare', good?.id ?? '', bad?.id ?? '');
    expect(text).toMatch(/^\* result +ok +\S+Failure/m);
    expect(text).toMatch(/~ variable |The derivations differ/);
    expect(await ok('compare', good?.id ?? '', good?.id ?? '')).toContain('Both built the same derivation');
  });

  test('cancel ends a build, whose client is told by whom and why, and logs -f ends with it', async () => {
    const { client, id } = await startEndless('endless');
    const following = drover.cli('logs', '-f', id);
    expect(await ok('top')).toMatch(new RegExp(`^${id} +\\S+endless +g\\d+ +building `, 'm'));
    expect(await ok('cancel', id, '--reason', 'make room')).toBe('');
    await client.ended;
    expect(client.stderr).toMatch(new RegExp(`Build ${id} was cancelled by .+: make room`));
    expect(await following).toMatchObject({ exitCode: 0, stdout: 'it has begun\n' });
    expect(await refused('cancel', id)).toContain(`The build ${id} has ended: Cancelled`);
    await waitUntil('a free guest', async () => (await drover.status()).leases === 0);
  });

  test('drain keeps running builds, lets others wait and says why; resume ends it', async () => {
    const { client, id } = await startEndless('runs-on');
    const { guest: busy } = await lastBuild();
    await ok('drain', '--all');
    expect((await drover.status()).state).toBe('drained');
    const next = host.startBuild(host.derivation('waits', 'echo > $out'));
    const line = /^b\d+ \S+waits has waited .*: all guests were drained; drover resume ends this$/m;
    await waitUntil('a build that waits', async () => line.test((await ok('top')).replaceAll('\n  ', ' ')));
    expect(busy).toMatch(/^g\d+$/);
    expect((await drover.status()).builds.find((build) => build.id === id)?.guest).toBe(busy);
    await ok('cancel', id);
    await client.ended;
    await waitUntil('no guests', async () => (await drover.status()).guests.length === 0);
    await ok('resume');
    expect((await next.ended).exitCode).toBe(0);
    const { guest } = await lastBuild();
    await ok('drain', guest ?? '');
    await waitUntil('no guests', async () => (await drover.status()).guests.length === 0);
  });

  test('events are lines of JSON, those of before and those to come', async () => {
    const lines = (await ok('events')).trim().split('\n');
    const types = lines.map((line) => (JSON.parse(line) as { type: string; at: string }).type);
    expect(types).toContain('build-started');
    expect(types).not.toContain('log-line');
  });

  test('unknown ids name the nearest, and wrong usage is told as such', async () => {
    expect(await refused('show', 'b99999')).toMatch(/There is no build b99999\n {2}The nearest are b\d+/);
    expect(await refused('logs', 'nonsense')).toContain('There is no build nonsense');
    expect(await refused('drain', 'g99')).toContain('There is no guest g99');
    for (const args of [
      ['drain'],
      ['drain', 'g1', '--all'],
      ['history', '--since', '2x'],
      ['completion', 'tcsh'],
    ]) {
      expect((await drover.cli(...args)).exitCode).toBe(2);
    }
  });

  test('a follower that stops reading costs no build its time', async () => {
    const { client, id } = await startEndless('followed');
    const socket = connect(new StateDir(drover.stateDir).controlSocket).pause();
    socket.write(`GET /builds/${id}/log?follow HTTP/1.1\r\nHost: x\r\n\r\n`);
    await once(socket, 'connect');
    succeeded(
      await host.build(
        host.derivation('loud', 'i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; echo > $out'),
      ),
    );
    expect(await lastBuild()).toMatchObject({ log: { lines: 20_000 }, succeeded: true });
    socket.destroy();
    await ok('cancel', id);
    await client.ended;
  });
});

describeE2e('the history', [], () => {
  test('outlives the supervisor, and a file that was cut off in the middle of a line', async () => {
    const stateDir = join(await mkdtemp('/tmp/dr-'), 's');
    try {
      const ids: string[] = [];
      for (let run = 0; run < 2; run++) {
        await using drover = await startDrover({ stateDir });
        await using host = await nixHost({ drover });
        const result = await host.build(host.derivation(`run-${run}`, `echo run ${run}; echo > $out`));
        succeeded(result);
        ids.push(/drover: build (b\d+) /.exec(result.stderr)?.[1] ?? '');
        await drover.stop();
        const { history } = new StateDir(stateDir);
        if (run === 0) await truncate(join(history, 'builds-000001.jsonl'), 200).catch(() => undefined);
      }
      await using drover = await startDrover({ stateDir });
      expect((await drover.cli('logs', ids[1] ?? '')).stdout).toBe('run 1\n');
      expect((await drover.cli('show', ids[1] ?? '')).stdout).toContain('run-1');
    } finally {
      await rm(join(stateDir, '..'), { recursive: true });
    }
  });
});
