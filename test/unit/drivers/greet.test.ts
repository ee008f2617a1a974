import { expect, test } from '@jest/globals';

import type { ExecResult, ImageManifest, RunningGuest } from '../../../src/guest/driver.js';
import { greetGuest } from '../../../src/drivers/greet.js';

const manifest: ImageManifest = {
  generation: 'abc',
  nixVersion: '2.26.3',
  protocol: { major: 1, minor: 38, features: [] },
  systems: ['x86_64-linux'],
};

class Guest implements Pick<RunningGuest, 'exec' | 'kill'> {
  killed = 0;
  #fail: (error: Error) => void = () => undefined;
  /** Undefined: it never answers. */
  readonly #answer: ImageManifest | undefined;

  constructor(answer: ImageManifest | undefined) {
    this.#answer = answer;
  }

  async exec(): Promise<ExecResult> {
    if (this.#answer !== undefined) return { exitCode: 0, stdout: JSON.stringify(this.#answer), stderr: '' };
    return await new Promise((_, reject) => (this.#fail = reject));
  }

  kill(): Promise<void> {
    this.killed += 1;
    this.#fail(new Error('The guest is gone'));
    return Promise.resolve();
  }
}

const greet = async (guest: Guest, signal = new AbortController().signal) =>
  await greetGuest(guest as unknown as RunningGuest, { manifest, ownClock: false }, signal);

test('the expected guest is left alone, also if its boot is cancelled later', async () => {
  const guest = new Guest(manifest);
  const abort = new AbortController();
  expect(await greet(guest, abort.signal)).toMatchObject({ generation: 'abc', brokenSystems: [] });
  abort.abort(new Error('too late'));
  expect(guest.killed).toBe(0);
});

test('a guest of another image is killed', async () => {
  const guest = new Guest({ ...manifest, generation: 'other' });
  await expect(greet(guest)).rejects.toThrow('the guest is of another image than it was booted from');
  expect(guest.killed).toBe(1);
});

test.each(['before', 'while'])(
  'a guest that does not answer is killed when its boot is given up %s',
  async (when) => {
    const guest = new Guest(undefined);
    const abort = new AbortController();
    if (when === 'before') abort.abort(new Error('it was not ready after 60 s'));
    const greeting = greet(guest, abort.signal);
    abort.abort(new Error('it was not ready after 60 s'));
    await expect(greeting).rejects.toThrow('it was not ready after 60 s');
    expect(guest.killed).toBeGreaterThan(0);
  },
);
