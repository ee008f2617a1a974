import { afterAll, beforeAll, expect, test } from '@jest/globals';

import type { Diagnosis } from '../../src/doctor/doctor.js';
import { runDrover, startDrover, type Drover } from '../support/drover.js';
import { describeE2e } from '../support/requirements.js';

interface Report {
  readonly checks: readonly Diagnosis[];
}

describeE2e('drover doctor', [], () => {
  let drover: Drover;

  beforeAll(async () => {
    drover = await startDrover();
  });

  afterAll(async () => {
    await drover[Symbol.asyncDispose]();
  });

  test('builds a line through the socket door of a running supervisor, from zero, and times it', async () => {
    const { stdout } = await drover.cli('doctor', '--json');
    const { checks } = JSON.parse(stdout) as Report;
    const of = (id: string): Diagnosis | undefined => checks.find((check) => check.id === id);
    expect(of('build-socket')).toMatchObject({ status: 'ok' });
    expect(of('build-socket')?.seen).toMatch(/boot \d+ ms \(ok\).*build \d+ ms/);
    expect(of('supervisor')?.status).toBe('ok');
    expect(of('driver')?.status).not.toBe('failure');
    expect(of('nix-daemon')?.status).toBe('ok');
    expect(of('socket-door')?.status).toBe('ok');
  });

  test('exits with 1 and says what to do if Nix does not know Drover', async () => {
    const { exitCode, stdout } = await drover.cli('doctor');
    expect(exitCode).toBe(1);
    expect(stdout).toContain("FAIL  root's Nix reaches Drover");
    expect(stdout).toContain('drover machines');
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThan(240);
  });

  test('is useful without a supervisor', async () => {
    const { exitCode, stdout } = await runDrover(['doctor', '--json'], {
      env: { XDG_STATE_HOME: '/nonexistent' },
    });
    const { checks } = JSON.parse(stdout) as Report;
    expect(checks.find(({ id }) => id === 'supervisor')?.status).toBe('warning');
    expect(checks.find(({ id }) => id === 'build-socket')?.status).toBe('skipped');
    expect([0, 1]).toContain(exitCode);
  });
});
