import { chmod, mkdir, mkdtemp, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { loadConfig } from '../../../src/config/load.js';
import type { Config } from '../../../src/config/schema.js';
import type { Check, DoctorContext } from '../../../src/doctor/check.js';
import { HOST_CHECKS, mountOptionsOf } from '../../../src/doctor/checks/host.js';
import { NIX_CHECKS } from '../../../src/doctor/checks/nix.js';
import { STORE_CHECKS } from '../../../src/doctor/checks/store.js';
import { CHECKS, diagnose, type Diagnosis } from '../../../src/doctor/doctor.js';
import { isSocketDoor, readMachines } from '../../../src/doctor/builders-setting.js';

const DAY_MS = 24 * 3_600_000;

let dir: string;
let config: Config;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'drover-doctor-test-'));
  const file = join(dir, 'drover.yaml');
  await writeFile(file, `stateDir: ${dir}/state\n`);
  config = await loadConfig({ file, env: {}, uid: 0, home: '/root' });
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

interface World {
  /** Nix's `builders` setting; undefined: nix cannot be run. */
  readonly builders?: string;
  readonly platform?: NodeJS.Platform;
}

async function check(
  checks: readonly Check[],
  id: string,
  world: World = {},
  repair = false,
): Promise<Diagnosis> {
  const context: DoctorContext = {
    ...{ config, status: undefined, env: {}, platform: world.platform ?? 'linux' },
    ...{ uid: process.getuid?.() ?? -1, home: '/home/somebody', storeDir: join(dir, 'store') },
    connectProgram: `${dir}/state/doors/connect`,
    socketMachine: () => '',
    run: () =>
      world.builders === undefined
        ? Promise.reject(new Error('there is no nix'))
        : Promise.resolve({
            exitCode: 0,
            stdout: JSON.stringify({ builders: { value: world.builders } }),
            stderr: '',
          }),
    createDriver: () => Promise.reject(new Error('no driver in this test')),
  };
  const found: Diagnosis[] = [];
  for await (const diagnosis of diagnose(context, { repair, checks: checks.filter((c) => c.id === id) }))
    found.push(diagnosis);
  const [diagnosis] = found;
  if (diagnosis === undefined) throw new Error(`there is no check ${id}`);
  return diagnosis;
}

test('every check has an id of its own', () => {
  const ids = CHECKS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.length).toBeGreaterThanOrEqual(20);
});

test('a check that throws is a failure of that check', async () => {
  expect(await check(HOST_CHECKS, 'driver')).toMatchObject({
    status: 'failure',
    seen: 'no driver in this test',
  });
});

describe('the socket door', () => {
  beforeEach(async () => {
    await mkdir(join(dir, 'state/doors'), { recursive: true, mode: 0o700 });
    await writeFile(join(dir, 'state/doors/nix.sock'), '', { mode: 0o600 });
  });

  test('is fine if only its owner reaches it', async () => {
    expect((await check(HOST_CHECKS, 'socket-door')).status).toBe('ok');
  });

  test.each([
    ['its directory', 'state/doors', 0o755],
    ['the socket', 'state/doors/nix.sock', 0o666],
  ])('is a failure, and is repaired, if others can reach %s', async (_, path, mode) => {
    await chmod(join(dir, path), mode);
    expect(await check(HOST_CHECKS, 'socket-door')).toMatchObject({ status: 'failure', repaired: false });
    expect((await stat(join(dir, path))).mode & 0o777).toBe(mode);
    expect(await check(HOST_CHECKS, 'socket-door', {}, true)).toMatchObject({ status: 'ok', repaired: true });
  });
});

describe("Nix's machines", () => {
  const line = (systems = 'x86_64-linux'): string =>
    `ssh-ng://localhost?remote-program=${dir}/state/doors/connect ${systems} - 8 1 big-parallel - -`;

  test.each([
    ['in the setting', () => Promise.resolve(line())],
    ['among others', () => Promise.resolve(`ssh://other x86_64-linux ; ${line()}`)],
    [
      'in a file',
      async () => {
        await writeFile(join(dir, 'machines'), `# a comment\n${line()}\n`);
        return `@${join(dir, 'machines')}`;
      },
    ],
  ])('include the socket door %s', async (_, builders) => {
    expect(await check(NIX_CHECKS, 'root-builders', { builders: await builders() })).toMatchObject({
      status: 'ok',
    });
  });

  test.each([
    ['are empty', ''],
    ['are others', 'ssh://other x86_64-linux'],
    ['are in a file that does not exist', '@/nonexistent'],
  ])('are a failure if they %s', async (_, builders) => {
    const diagnosis = await check(NIX_CHECKS, 'root-builders', { builders });
    expect(diagnosis.status).toBe('failure');
    expect(diagnosis.fix).toContain('drover machines');
  });

  test('are read with the program encoded as in an URL', async () => {
    const [machine] = await readMachines(
      'ssh-ng://localhost?remote-program=/a%20b/connect x86_64-linux - 1 1 kvm,nixos-test uid-range',
    );
    expect(machine).toMatchObject({
      systems: ['x86_64-linux'],
      features: ['kvm', 'nixos-test', 'uid-range'],
    });
    expect(machine !== undefined && isSocketDoor(machine, '/a b/connect')).toBe(true);
  });

  test('that name themselves are read once', async () => {
    const file = join(dir, 'loop');
    await writeFile(file, `@${file}\n`);
    expect(await readMachines(`@${file}`)).toEqual([]);
  });
});

describe('lock files in the store', () => {
  const lock = (): string => join(dir, 'store', `${'0'.repeat(32)}-hello.lock`);

  beforeEach(async () => {
    await mkdir(join(dir, 'store'));
    await writeFile(lock(), '', { mode: 0o600 });
  });

  test('are fine while they are new', async () => {
    expect((await check(STORE_CHECKS, 'stale-locks')).status).toBe('ok');
  });

  test('are reported once they are old, and never if they hold something', async () => {
    const old = new Date(Date.now() - 2 * DAY_MS);
    await utimes(lock(), old, old);
    expect((await check(STORE_CHECKS, 'stale-locks')).status).toBe('warning');
    await writeFile(lock(), '[[package]]');
    await utimes(lock(), old, old);
    expect((await check(STORE_CHECKS, 'stale-locks')).status).toBe('ok');
  });
});

test('mount options are those of the innermost file system that holds the path', () => {
  const mounts = [
    'rootfs / ext4 rw 0 0',
    'tmpfs /var tmpfs rw,noexec 0 0',
    'tmpfs /var/lib tmpfs rw,nosuid 0 0',
    'tmpfs /var/lib/droverX tmpfs noexec 0 0',
  ].join('\n');
  expect(mountOptionsOf('/var/lib/drover', mounts)).toEqual(['rw', 'nosuid']);
  expect(mountOptionsOf('/var/x', mounts)).toContain('noexec');
  expect(mountOptionsOf('/opt', mounts)).toEqual(['rw']);
});
