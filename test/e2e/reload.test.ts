import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';
import { parse, stringify } from 'yaml';

import { MAIN, startDrover, type Drover } from '../support/drover.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** On a busy machine its end takes longer than execa waits before it kills. */
const EXECA = { reject: false, forceKillAfterDelay: false } as const;

type Sections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** Rewrites the configuration that a supervisor was started with. */
async function change(drover: Drover, sections: Sections): Promise<void> {
  const config = parse(await readFile(drover.configFile, 'utf8')) as Sections;
  const merged = Object.entries(sections).map(([name, keys]) => [name, { ...config[name], ...keys }]);
  await replace(drover.configFile, stringify({ ...config, ...Object.fromEntries(merged) }));
}

/** At once: a file that is being written is a configuration, too. */
async function replace(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

describeE2e('a configuration that changes', [], () => {
  test('is taken over without a restart: limits at once, guests by new ones', async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('before', 'echo $NIX_BUILD_CORES; echo done > $out')));
    const position = await drover.caughtUp();

    await change(drover, { pool: { maxGuests: 3 }, guest: { cores: 1 } });
    await drover.waitForLog('configuration reloaded');
    await drover.events.waitFor('guest-retired', ({ reason }) => reason === 'stale', { since: position });
    expect((await drover.status()).maxGuests).toBe(3);

    const { stderr } = succeeded(
      await host.build(host.derivation('after', 'echo "cores: $NIX_BUILD_CORES"; echo done > $out')),
    );
    expect(stderr).toContain('cores: 1\n');
  });

  test('replaces guests only once a new one has booted and built a line', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1 } } });
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('before', 'echo > $out')));
    const ids = (await drover.status()).guests.map(({ id }) => id);

    await change(drover, { guest: { nixConf: { 'build-users-group': 'absent' } } });
    const { err } = await drover.waitForLog('new guests failed their trial; the old ones continue');
    const { code, message } = err as Record<string, string>;
    expect(`${code}: ${message}`).toMatch(/^TRIAL_FAILED: .*absent/s);
    expect((await drover.status()).rollout).toMatchObject({ state: 'failed' });
    succeeded(await host.build(host.derivation('meanwhile', 'echo > $out')));
    expect((await drover.status()).guests.map(({ id }) => id)).toEqual(ids);

    const position = await drover.caughtUp();
    drover.signal('SIGHUP');
    await drover.events.waitFor('rollout-finished', ({ result }) => result === 'failed', { since: position });

    await change(drover, { guest: { cores: 1, nixConf: {} } });
    await drover.waitForLog('new guests adopted');
    expect((await drover.status()).rollout).toBeNull();
    const { stderr } = succeeded(
      await host.build(host.derivation('after', 'echo "cores: $NIX_BUILD_CORES"; echo > $out')),
    );
    expect(stderr).toContain('cores: 1\n');
  });

  test('but is not usable leaves the old one in force, and says why', async () => {
    await using drover = await startDrover();
    await replace(drover.configFile, 'pool: { maxGusts: 3 }\n');
    const line = await drover.waitForLog('the new configuration is not usable; the old one stays');
    expect(line['reason']).toContain('drover.yaml:1:9: pool.maxGusts: unknown key; did you mean maxGuests?');
    expect((await drover.status()).maxGuests).toBe(2);
  });

  test('but cannot be followed on this host leaves the old one in force, and says what to do', async () => {
    await using drover = await startDrover();
    await change(drover, { guest: { nix: '/nowhere' } });
    expect(await drover.waitForLog('the new configuration is not usable; the old one stays')).toMatchObject({
      reason: expect.stringContaining('/nowhere'),
      hint: expect.stringContaining('guest.nix'),
    });
  });

  test('names a log file, which is reopened on SIGHUP after a log rotator has renamed it', async () => {
    const dir = await mkdtemp('/tmp/rl-');
    const [stateDir, file, log] = [join(dir, 's'), join(dir, 'drover.yaml'), join(dir, 'drover.log')];
    await writeFile(file, stringify({ stateDir, metrics: null, log: { file: log } }));
    const drover = execa(process.execPath, [MAIN, 'serve', '--config', file], EXECA);
    try {
      const logged = async (text: string): Promise<boolean> =>
        (await readFile(log, 'utf8').catch(() => '')).includes(text);
      await waitUntil('drover to be ready', () => logged('drover is ready'));
      const pid = await waitUntil('its pid', () =>
        readFile(join(stateDir, 'drover.pid'), 'utf8').catch(() => undefined),
      );
      await rename(log, `${log}.0`);
      process.kill(Number(pid), 'SIGHUP');
      await waitUntil('the new log', () => existsSync(log));
      await replace(file, stringify({ stateDir, metrics: null, log: { file: log, level: 'debug' } }));
      await waitUntil('a line in it', () => logged('configuration reloaded'));
      drover.kill('SIGTERM');
      expect(await drover).toMatchObject({ exitCode: 0, stderr: '' });
      expect(existsSync(join(stateDir, 'drover.pid'))).toBe(false);
    } finally {
      drover.kill('SIGKILL');
      await drover;
      await rm(dir, { recursive: true, force: true });
    }
  });

  test('is read again on SIGHUP; what takes a restart is named', async () => {
    await using drover = await startDrover();
    await change(drover, { metrics: { listen: '127.0.0.1:0' } });
    drover.signal('SIGHUP');
    const line = await drover.waitForLog('these keys take effect when drover is restarted');
    expect(line['keys']).toContain('metrics');
    expect((await waitUntil('the status', () => drover.status())).metrics).toBeNull();
  });

  test('and is a pipe then is not waited for', async () => {
    await using drover = await startDrover();
    await rm(drover.configFile);
    await execa('mkfifo', [drover.configFile]);
    drover.signal('SIGHUP');
    const reason = `${drover.configFile}: cannot read the configuration: it is no longer a file`;
    await waitUntil('the pipe to be refused', () => drover.log.some((line) => line['reason'] === reason));
    expect(await drover.stop()).toEqual({ exitCode: 0, signal: null });
  });

  test('is the one that was read where it comes from a pipe, which tells it only once', async () => {
    const dir = await mkdtemp('/tmp/rl-');
    const [stateDir, file, log] = [join(dir, 's'), join(dir, 'drover.yaml'), join(dir, 'drover.log')];
    await writeFile(file, stringify({ stateDir, metrics: null, log: { file: log }, pool: { maxGuests: 7 } }));
    const script = 'exec "$0" "$1" serve --config <(cat "$2")';
    const drover = execa('bash', ['-c', script, process.execPath, MAIN, file], EXECA);
    try {
      const logged = async (text: string): Promise<boolean> =>
        (await readFile(log, 'utf8').catch(() => '')).includes(text);
      await waitUntil('drover to be ready', () => logged('drover is ready'));
      await rename(log, `${log}.0`);
      drover.kill('SIGHUP');
      await waitUntil('the new log', () => existsSync(log));
      drover.kill('SIGTERM');
      expect((await drover).exitCode).toBe(0);
      for (const name of [log, `${log}.0`])
        expect(await readFile(name, 'utf8')).not.toMatch(/configuration reloaded|not usable/);
    } finally {
      drover.kill('SIGKILL');
      await drover;
      await rm(dir, { recursive: true, force: true });
    }
  });
});
