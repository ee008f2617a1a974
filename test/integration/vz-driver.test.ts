import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { VzDriver, type VzDriverOptions } from '../../src/drivers/vz/driver.js';
import type { Machine } from '../../src/guest/driver.js';
import { REPOSITORY, runDrover, startDrover } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper } from '../support/vz-helper.js';
import { waitUntil, within } from '../support/wait.js';

const GUEST = join(REPOSITORY, 'test/fixtures/vz-guest/ssh-guest.mjs');
const CONSOLE_GUEST = join(REPOSITORY, 'test/fixtures/vz-guest/console-guest.mjs');
/** For Node: to say of itself that it runs on macOS. */
const ON_A_MAC = `--import=data:text/javascript,${encodeURIComponent("Object.defineProperty(process, 'platform', { value: 'darwin' })")}`;
const NEVER = new AbortController().signal;

/** The driver, with vz-helper's own code on the double of Virtualization.framework. */
describeWith('the vz driver', ['vz-helper', 'dist', 'ssh', 'procps'], () => {
  let program = '';
  let dir = '';

  beforeAll(async () => {
    program = await buildVzHelper();
  }, 600_000);
  beforeEach(async () => {
    dir = await mkdtemp('/tmp/vz-driver-');
    await mkdir(join(dir, 'store'));
    const kernel = Buffer.alloc(0x300);
    kernel.write('ARMd', 0x38, 'latin1');
    await writeFile(join(dir, 'kernel'), kernel);
    await writeFile(join(dir, 'initrd'), 'an initrd');
    await writeManifest('aarch64');
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });

  async function writeManifest(architecture: string, translators?: readonly string[]): Promise<void> {
    await writeFile(
      join(dir, 'manifest.json'),
      JSON.stringify({
        generation: 'abc',
        nixVersion: '2.31.0',
        protocol: { major: 1, minor: 38, features: [] },
        systems: ['aarch64-linux', 'x86_64-linux'],
        architecture,
        kernel: { path: 'kernel' },
        initrd: { path: 'initrd' },
        commandLine: 'quiet',
        translators,
      }),
    );
  }

  /** A helper whose double is what these words say; see vz-helper/double/double.h. */
  async function helper(words: string, guest = GUEST, more = ''): Promise<string> {
    const file = join(dir, 'helper');
    const settings = `DROVER_VZ_DOUBLE=${words} DROVER_VZ_DOUBLE_DIR=${dir} DROVER_VZ_DOUBLE_GUEST=${guest} ${more}`;
    await writeFile(file, `#!/bin/sh\nexport ${settings}\nexec ${program}\n`);
    await chmod(file, 0o755);
    return file;
  }

  async function options(
    words = '',
    guest: Partial<VzDriverOptions['guest']> = {},
    guestProgram = GUEST,
  ): Promise<VzDriverOptions> {
    return {
      stateDir: join(dir, 's'),
      env: process.env,
      storeDir: join(dir, 'store'),
      maxJobs: 4,
      maxGuests: 2,
      features: [],
      native: false,
      helper: await helper(words, guestProgram),
      guest: {
        cores: 1,
        memoryBytes: 2 ** 30,
        scratchSizeBytes: 2 ** 30,
        store: 'raw',
        network: 'host',
        nixConf: {},
        image: join(dir, 'manifest.json'),
        rosetta: { enable: true, cache: true },
        x86_64: ['rosetta', 'qemu-user'],
        nestedVirtualization: false,
        ...guest,
      },
    };
  }

  test('boots a guest, speaks to its root and its daemon, and leaves nothing behind', async () => {
    const driver = await VzDriver.create(await options('rosetta=installed'));
    expect(driver.manifest.systems).toEqual(['aarch64-linux', 'x86_64-linux']);
    expect(driver.warnings).toEqual([]);
    const guest = await driver.boot({ id: 'g1', signal: NEVER });
    const files = join(dir, 's/guests/g1/drover');
    expect((await readdir(files)).sort()).toEqual([
      'authorized_keys',
      'guest.env',
      'host_key',
      'manifest.json',
      'nix.conf',
    ]);
    // The supervisor's key is there as its public half only.
    expect(await readFile(join(files, 'authorized_keys'), 'utf8')).toMatch(/ssh-ed25519 \S+\n$/);
    expect(await readFile(join(files, 'guest.env'), 'utf8')).toContain('share=virtiofs\nstore=raw\nrosetta=');
    expect(await guest.exec(['sh', '-c', 'cat; exit 3'], 'input')).toMatchObject({
      exitCode: 3,
      stdout: 'input',
    });
    const daemon = await guest.openDaemon();
    daemon.write('hello');
    const answer = await new Promise((resolve) =>
      daemon.once('data', (bytes: Buffer) => {
        resolve(String(bytes));
      }),
    );
    expect(answer).toBe('daemon: hello');
    await guest.stop();
    await guest.exited;
    expect(existsSync(join(dir, 's/guests/g1'))).toBe(false);
    await waitUntil('the end of its log', async () => (await readdir(join(dir, 's/logs'))).length === 0);
  });

  describe('a machine of a person', () => {
    let machine: Machine;
    let printed: string;

    async function start(words: string, share?: string): Promise<void> {
      const driver = await VzDriver.create(await options(words, {}, CONSOLE_GUEST));
      const kernelParameters = ['drover.console=80x24,dumb'];
      machine = await driver.startMachine({ id: 'g1', slot: 0, kernelParameters, share, signal: NEVER });
      printed = '';
      machine.output.on('data', (chunk: Buffer) => (printed += String(chunk)));
      await shows('the console is up');
    }
    async function shows(text: string): Promise<void> {
      await waitUntil(`${text} on the console`, () => printed.includes(text));
    }
    const type = (line: string): void => void machine.input.write(`${line}\n`);
    afterEach(async () => {
      await machine.kill();
    });

    test('has its console here both ways, a share, and leaves nothing when it powers off', async () => {
      const share = join(dir, 'own');
      await mkdir(share);
      await start('rosetta=installed', share);
      type('cmdline');
      await shows('console=hvc0 drover.store=raw drover.console=80x24,dumb quiet');
      type('write from the machine');
      await shows('written');
      expect(await readFile(join(share, 'out'), 'utf8')).toBe('from the machine');
      type('flood 3000000');
      await shows('that was all');
      type('poweroff');
      expect(await within('its end', machine.ended)).toMatchObject({ poweredOff: true });
      expect(printed).toMatch(/reboot: Power down\r\n$/);
      expect(existsSync(join(dir, 's/guests/g1'))).toBe(false);
      expect(await readdir(join(dir, 's/logs'))).toEqual([]);
    });

    test.each([
      ['a vital unit fails', '', 'fail', 'drover: nix-daemon has ended: exit-code (exited 1)'],
      ['it crashes', '', 'crash', /^its vz-helper: the guest crashed: /],
      ['its kernel panics, and macOS boots it again', 'panicResets', 'panic', 'its kernel panicked'],
    ])('ends badly when %s', async (_, words, command, how) => {
      await start(words);
      type(command);
      const end = await within('its end', machine.ended);
      expect(end).toEqual({
        poweredOff: false,
        how: typeof how === 'string' ? how : expect.stringMatching(how),
      });
      expect(await readdir(join(dir, 's/logs'))).toHaveLength(1);
    });

    test('is killed although its console is not read', async () => {
      await start('');
      machine.output.pause().removeAllListeners('data');
      type('flood 3000000');
      await machine.kill();
      expect(existsSync(join(dir, 's/guests/g1'))).toBe(false);
    });
  });

  test('a helper that is killed is the end of its guest, and is told', async () => {
    const driver = await VzDriver.create(await options());
    const guest = await driver.boot({ id: 'g1', signal: NEVER });
    await execa('pkill', ['-KILL', '-P', String(process.pid), '-f', `^${program}$`]);
    expect(await within('its end', guest.exited)).toContain('SIGKILL');
    await expect(guest.exec(['true'])).rejects.toMatchObject({ code: 'GUEST_GONE' });
    expect(existsSync(join(dir, 's/guests/g1'))).toBe(false);
  });

  test('a guest that ends while it boots: its last words are in the error', async () => {
    const guest = join(dir, 'dies');
    await writeFile(guest, '#!/bin/sh\necho "drover: no scratch disk"\nexit 1\n');
    await chmod(guest, 0o755);
    const driver = await VzDriver.create(await options('', {}, guest));
    await expect(driver.boot({ id: 'g1', signal: NEVER })).rejects.toMatchObject({
      code: 'BOOT_FAILED',
      message: expect.stringMatching(/^The guest g1 did not boot: .*\n?.*drover: no scratch disk/s),
    });
    expect(existsSync(join(dir, 's/guests/g1'))).toBe(false);
  });

  test.each([
    ['macOS does not start', 'startHangs', 'machine.json', /7 s: vz-helper has not answered start/],
    ['says nothing', '', 'connected', /7 s: The guest's vsock port 22/],
  ])('a boot that is given up, of a guest that %s, says what it waited for', async (_, words, sign, what) => {
    const guest = join(dir, 'says-nothing');
    await writeFile(
      guest,
      `#!/usr/bin/env node
      const { vsockDir } = JSON.parse(require('fs').readFileSync(process.argv[2]));
      const onConnection = () => require('fs').writeFileSync(vsockDir + '/connected', '');
      require('net').createServer(onConnection).listen(vsockDir + '/22.sock');`,
    );
    await chmod(guest, 0o755);
    const driver = await VzDriver.create(await options(words, {}, guest));
    const abort = new AbortController();
    const booting = driver.boot({ id: 'g1', signal: abort.signal });
    booting.catch(() => undefined);
    // It fails where it meets what is removed meanwhile.
    await waitUntil(
      sign,
      async () => (await execa('find', [dir, '-name', sign], { reject: false })).stdout !== '',
    );
    abort.abort(new Error('it was not ready after 7 s'));
    await expect(booting).rejects.toMatchObject({
      code: 'BOOT_FAILED',
      message: expect.stringMatching(what),
    });
    expect(existsSync(join(dir, 's/guests/g1'))).toBe(false);
  });

  test.each(['hello', 'set-clock'])('a guest whose %s never ends can be given up', async (verb) => {
    const agent = join(dir, 'agent');
    const begun = join(dir, 'begun');
    const real = join(REPOSITORY, 'guest-config/drover-guest.sh');
    await writeFile(
      agent,
      `[ "$1" = ${verb} ] || exec sh ${real} "$@"\ntouch ${begun}\nwhile [ -e ${begun} ]; do sleep 0.1; done\n`,
    );
    const driver = await VzDriver.create({
      ...(await options()),
      helper: await helper('', GUEST, `DROVER_TEST_AGENT=${agent}`),
    });
    const abort = new AbortController();
    const booting = driver.boot({ id: 'g1', signal: abort.signal });
    booting.catch(() => undefined);
    await waitUntil(verb, () => existsSync(begun));
    abort.abort(new Error('it was not ready after 7 s'));
    await expect(within('the end of the boot', booting)).rejects.toMatchObject({
      code: 'BOOT_FAILED',
      message: expect.stringContaining('7 s: drover-guest hello or set-clock has not ended in it'),
    });
    expect(existsSync(join(dir, 's/guests/g1'))).toBe(false);
  });

  test('a guest whose network fails while it boots serves builds, with a warning', async () => {
    const driver = await VzDriver.create(await options('networkLost'));
    const guest = await driver.boot({ id: 'g1', signal: NEVER });
    try {
      expect(guest.warnings).toEqual([expect.stringContaining('no network: The network is gone.')]);
    } finally {
      await guest.kill();
    }
  });

  test.each(['notInstalled', 'notSupported'])(
    'serves the other systems of its configuration where Rosetta is %s, and says so',
    async (rosetta) => {
      await using drover = await startDrover({
        config: {
          driver: 'vz',
          metrics: { listen: '127.0.0.1:0' },
          systems: ['aarch64-linux', 'x86_64-linux'],
          guest: { image: join(dir, 'manifest.json'), cores: 1, memory: '1GiB', scratchSize: '1GiB' },
        },
        env: { DROVER_VZ_HELPER: await helper(`rosetta=${rosetta}`) },
      });
      const { systems, warnings, metrics } = await drover.status();
      expect(systems).toEqual(['aarch64-linux']);
      expect(await (await fetch(metrics ?? '')).text()).toContain(
        'drover_system_served{system="x86_64-linux"} 0\n',
      );
      expect(warnings).toContainEqual(expect.stringContaining('x86_64-linux'));
      const { stdout } = await drover.cli('machines');
      expect(stdout.split(' ')[1]).toBe('aarch64-linux');
    },
  );

  test.each(['notInstalled', 'notSupported'])(
    'serves x86_64-linux by QEMU where Rosetta is %s and the image has it, and says so',
    async (rosetta) => {
      await writeManifest('aarch64', ['qemu-user']);
      const driver = await VzDriver.create(await options(`rosetta=${rosetta}`));
      expect(driver.manifest.systems).toEqual(['aarch64-linux', 'x86_64-linux']);
      expect([...driver.translatedSystems]).toEqual(['x86_64-linux']);
      expect(driver.warnings).toContainEqual(expect.stringContaining("x86_64-linux is built with QEMU's"));
      const guest = await driver.boot({ id: 'g1', signal: NEVER });
      const env = await readFile(join(dir, 's/guests/g1/drover/guest.env'), 'utf8');
      await guest.kill();
      expect(env).toContain('rosetta=off\ntranslators=qemu-user\n');
    },
  );

  test('a guest in which Rosetta does not work, and QEMU does, is told of', async () => {
    await writeManifest('aarch64', ['qemu-user']);
    const agent = join(dir, 'agent');
    await writeFile(join(dir, 'translator'), 'qemu-user\n');
    const real = join(REPOSITORY, 'guest-config/drover-guest.sh');
    await writeFile(agent, `export DROVER_TRANSLATOR=${dir}/translator; exec sh ${real} "$@"\n`);
    const driver = await VzDriver.create({
      ...(await options()),
      helper: await helper('rosetta=installed', GUEST, `DROVER_TEST_AGENT=${agent}`),
    });
    expect(driver.warnings).toEqual([]);
    const guest = await driver.boot({ id: 'g1', signal: NEVER });
    await guest.kill();
    expect(driver.warnings).toEqual([
      expect.stringMatching(/^Rosetta does not run programs in guests: x86_64/),
    ]);
    expect([...driver.brokenSystems]).toEqual([]);
  });

  test('a helper that does not find its entitlement is warned of, and boots guests if the framework lets it', async () => {
    const driver = await VzDriver.create(await options('entitlementHidden'));
    expect(driver.warnings).toEqual([expect.stringMatching(/codesign --force --sign - /)]);
    const guest = await driver.boot({ id: 'g1', signal: NEVER });
    await guest.kill();
  });

  test('a helper that is not signed: what the framework says about it, and what to do', async () => {
    const driver = await VzDriver.create(await options('unentitled'));
    await expect(driver.boot({ id: 'g1', signal: NEVER })).rejects.toMatchObject({
      code: 'BOOT_FAILED',
      message: expect.stringContaining('com.apple.security.virtualization'),
      hint: expect.stringContaining('codesign --force --sign -'),
    });
  });

  test('bounds the files that guests remember of a raw share, all of them together', async () => {
    const driver = await VzDriver.create(await options());
    const guest = await driver.boot({ id: 'g1', signal: NEVER });
    try {
      expect(guest.rememberedFiles).toBe(10_000);
    } finally {
      await guest.kill();
    }
  });

  test("warns of a host's Nix that replaces files under guests", async () => {
    const env = { ...process.env, NIX_CONFIG: 'auto-optimise-store = true' };
    const driver = await VzDriver.create({ ...(await options()), env });
    expect(driver.warnings).toEqual([expect.stringContaining('auto-optimise-store')]);
  });

  test('says what of the Mac builds reach with guest.network outbound', async () => {
    const driver = await VzDriver.create(await options('', { network: 'outbound' }));
    expect(driver.warnings).toEqual([expect.stringContaining('listen on all its addresses')]);
  });

  test('starts although the scratch disk could not be filled, with a warning', async () => {
    const driver = await VzDriver.create(await options('', { scratchSizeBytes: 2 ** 49 }));
    expect(driver.warnings).toEqual([expect.stringContaining('guest.scratchSize')]);
    // macOS would make room for it.
    const purging = await VzDriver.create(
      await options(`purgeable=${2 ** 50}`, { scratchSizeBytes: 2 ** 49 }),
    );
    expect(purging.warnings).toEqual([]);
  });

  test('what its helper warns of while it boots is logged', async () => {
    await using drover = await startDrover({
      config: {
        driver: 'vz',
        pool: { warmGuests: 1 },
        guest: { image: join(dir, 'manifest.json'), cores: 1, memory: '1GiB', scratchSize: '1GiB' },
      },
      env: { DROVER_VZ_HELPER: await helper('sleepUntold') },
    });
    expect(await drover.waitForLog('guest reported a warning')).toMatchObject({
      guest: expect.stringMatching(/^g\d+$/) as unknown,
      warning: 'macOS does not tell when this Mac sleeps and wakes',
    });
  });

  test.each([['unsupported', 'REQUIREMENT_MISSING', /cannot run virtual machines/, /driver to qemu/]])(
    'a Mac that is %s is refused',
    async (words, code, message, hint) => {
      await expect(VzDriver.create(await options(words))).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
        hint: expect.stringMatching(hint),
      });
    },
  );

  test('without a helper, or an image', async () => {
    await expect(VzDriver.create({ ...(await options()), helper: join(dir, 'none') })).rejects.toMatchObject({
      code: 'REQUIREMENT_MISSING',
      message: `vz-helper is not there: ${join(dir, 'none')}`,
    });
    await expect(VzDriver.create(await options('', { image: undefined }))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('guest.image is not set'),
    });
    await writeManifest('x86_64');
    await expect(VzDriver.create(await options())).rejects.toMatchObject({ code: 'IMAGE_UNUSABLE' });
  });

  test.each([
    [
      'a Mac without virtualization',
      'unsupported',
      69,
      /cannot run virtual machines.*\n  Set driver to qemu/,
    ],
    ['a helper that macOS kills', 'killed', 69, /without a valid signature\n.*codesign --force --sign -/],
    ['no helper', 'absent', 69, /vz-helper is not there: .*\n.*package for macOS again/],
    ['no image', 'imageless', 78, /guest\.image is not set\n.*nix-darwin module/],
  ])('by itself, on a Mac the only one to be tried, with %s', async (_, words, exitCode, message) => {
    const { guest, stateDir, helper: real } = await options(words);
    const config = join(dir, 'drover.yaml');
    const image = words === 'imageless' ? {} : { image: guest.image };
    await writeFile(config, JSON.stringify({ stateDir, metrics: null, guest: image }));
    if (words === 'killed') await writeFile(real, '#!/bin/sh\nkill -KILL $$\n');
    const DROVER_VZ_HELPER = words === 'absent' ? join(dir, 'absent') : real;
    const result = await runDrover(['serve', '--config', config], {
      env: { DROVER_VZ_HELPER, NODE_OPTIONS: ON_A_MAC },
    });
    expect(result).toEqual({ exitCode, stdout: '', stderr: expect.stringMatching(message) });
  });

  test.each([
    ['installed', 'aarch64-linux,x86_64-linux'],
    ['notInstalled', 'aarch64-linux'],
  ])('Nix is told what guests build where Rosetta is %s, before any runs', async (rosetta, systems) => {
    const config = join(dir, 'drover.yaml');
    const { guest, stateDir, helper: DROVER_VZ_HELPER } = await options(`rosetta=${rosetta}`);
    await writeFile(config, JSON.stringify({ stateDir, driver: 'vz', guest: { image: guest.image } }));
    const { stdout, stderr } = await runDrover(['machines', '--config', config], {
      env: { DROVER_VZ_HELPER },
    });
    expect({ stderr, systems: stdout.split(' ')[1] }).toEqual({ stderr: '', systems });
  });

  test('more than this Mac can give', async () => {
    const refused = async (changed: VzDriverOptions, message: RegExp): Promise<void> => {
      await expect(VzDriver.create(changed)).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringMatching(message),
      });
    };
    await refused(await options('', { cores: 5_000 }), /guest\.cores is 5000/);
    await refused(await options('', { memoryBytes: 2 ** 60 }), /guest\.memory is/);
    await refused(await options('', { nestedVirtualization: true }), /nestedVirtualization is true/);
    const stateDir = join(dir, 'x'.repeat(70));
    await refused({ ...(await options()), stateDir }, /vsock\.path: must be 1 to 103 bytes/);
    await refused({ ...(await options()), maxJobs: 512 }, /jobsPerGuest is 512, .* at most 511/);
  });

  test('what an earlier supervisor left behind is removed, and told', async () => {
    const driver = await VzDriver.create(await options());
    await execa('mkdir', ['-p', join(dir, 's/guests/g7')]);
    expect(await driver.reap()).toEqual(['removed the directory of guest g7']);
    expect(await readdir(join(dir, 's/guests'))).toEqual([]);
  });

  test('after a sleep of the host its guest gets the right time, or no more work', async () => {
    await using drover = await startDrover({
      config: {
        pool: { maxGuests: 2, warmGuests: 1 },
        guest: { image: join(dir, 'manifest.json'), cores: 1, memory: '1GiB', scratchSize: '1GiB' },
      },
      env: { DROVER_VZ_HELPER: await helper(''), NODE_OPTIONS: ON_A_MAC },
    });
    expect((await drover.status()).driver).toBe('vz');
    const ready = async (): Promise<string[]> =>
      (await drover.status()).guests.filter(({ state }) => state === 'ready').map(({ id }) => id);
    const [first = ''] = await waitUntil('a guest', async () => {
      const ids = await ready();
      return ids.length === 1 && ids;
    });
    const isAsleep = async (): Promise<boolean> =>
      (await drover.status()).guests.some(({ id, asleep }) => id === first && asleep);
    const [machine = ''] = await execa('find', [dir, '-name', 'clock']).then(({ stdout }) =>
      stdout.split('\n').map(dirname),
    );
    const pid = Number(basename(dirname(dirname(machine))));
    const clock = async (): Promise<number[]> =>
      (await readFile(join(machine, 'clock'), 'utf8'))
        .trim()
        .split('\n')
        .map((at) => Number(at.slice(1)));
    expect(await clock()).toHaveLength(1);

    process.kill(pid, 'SIGUSR1');
    // Two signals that wait for a process reach it in either order.
    await waitUntil('its sleep', isAsleep);
    const wokenAt = Date.now() / 1000;
    process.kill(pid, 'SIGUSR2');
    await waitUntil('its waking', async () => !(await isAsleep()));
    const time = (await clock()).at(-1) ?? 0;
    expect(time).toBeGreaterThanOrEqual(Math.floor(wokenAt));
    expect(time).toBeLessThanOrEqual(Date.now() / 1000);
    expect(await ready()).toEqual([first]);

    await writeFile(join(machine, 'bin/date'), '#!/bin/sh\nexit 1\n');
    process.kill(pid, 'SIGUSR2');
    await waitUntil('another guest', async () => {
      const ids = await ready();
      return ids.length === 1 && !ids.includes(first);
    });
    const { why } = await drover.waitForLog('retiring guest');
    expect(why).toMatch(/clock cannot be set after the host's sleep/);
    // On a Mac the kernel would not kill the nix-daemon of its own with it.
    await drover.stop();
  });
});
