import { readFile } from 'node:fs/promises';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { MAIN, startDrover, type Drover } from '../support/drover.js';
import { nixHost, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

describeE2e('a failed build that is kept', [], () => {
  let drover: Drover;
  let host: NixHost;
  beforeAll(async () => {
    drover = await startDrover({
      config: { pool: { maxGuests: 1, idleTimeout: '0s' }, guest: { keepFailed: '30m' } },
    });
    host = await nixHost({ drover });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
  });

  /** Has a build fail. @returns its id */
  async function fail(name: string): Promise<string> {
    const script = 'echo half > made; echo "$word"; exit 3';
    const since = await drover.caughtUp();
    const { exitCode, stderr } = await host.build(host.derivation(name, script, `word = "it's";`));
    expect(exitCode).not.toBe(0);
    const [, id = ''] = /^drover: kept for 30m: drover shell (b\d+)$/m.exec(stderr) ?? [];
    expect({ id, stderr }).toEqual({ id: expect.stringMatching(/^b/) as unknown, stderr });
    await drover.events.waitFor('lease-returned', () => true, { since });
    return id;
  }

  async function sh(script: string, id: string) {
    const words = [MAIN, '--config', drover.configFile, 'shell', id];
    const { exitCode, stdout, stderr } = await execa(process.execPath, words, {
      input: script,
      reject: false,
    });
    return { exitCode, stdout, stderr };
  }

  test('is entered in its directory, with its environment, as a build user, and can go on', async () => {
    const id = await fail('breaks');
    const script = 'pwd; cat made; echo "$word"; id -un; echo more > /build/made; cat made; exit 4';
    expect(await sh(script, id)).toEqual({
      ...{ exitCode: 4, stderr: '' },
      stdout: expect.stringMatching(/^\/build\nhalf\nit's\nnixbld\d+\nmore$/) as unknown,
    });
    // As long as it is kept, it can be entered again, and its guest stays although it is idle.
    expect((await sh('cat made; touch /nix/store/x', id)).stdout).toBe('more');
    const [guest] = (await drover.status()).guests;
    expect(guest).toMatchObject({ keptBuilds: [id], leases: 0 });
  });

  test('gives up its place to a client that waits, and is refused from then on', async () => {
    const [guest] = (await drover.status()).guests;
    const kept = guest?.keptBuilds[0] ?? '';
    // Drained, it takes no more builds, but stays for the failed one.
    await sh('exit', guest?.id ?? '');
    await drover.events.waitFor('guest-retired', ({ reason }) => reason === 'shell');
    expect((await drover.status()).guests).toMatchObject([{ id: guest?.id, state: 'draining' }]);
    const { exitCode, outputs } = await host.build(host.derivation('good', 'echo fine > $out'));
    expect(exitCode).toBe(0);
    expect(await readFile(outputs[0] ?? '', 'utf8')).toBe('fine\n');
    expect(await sh('', kept)).toEqual({
      ...{ exitCode: 1, stdout: '' },
      stderr: expect.stringContaining(`The build ${kept} is not kept`) as unknown,
    });
  });

  test('is released by drover drain', async () => {
    await fail('breaks-again');
    const id = (await drover.status()).guests[0]?.id ?? '';
    await drover.cli('drain', id);
    await drover.events.waitFor('guest-state', (event) => event.guest === id && event.to === 'stopped');
  });
});
