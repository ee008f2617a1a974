import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import { startDrover, type Drover } from '../support/drover.js';
import { guestInit, guestProcesses, inGuest, processes, sameNamespace } from '../support/guests.js';
import { nixHost, succeeded, type NixHost, type NixProcess } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const MARKER = `/tmp/drover-marker-${process.pid}`;

describeE2e('in a guest', [], () => {
  let drover: Drover;
  let host: NixHost;
  let client: NixProcess;
  let guest: string;
  let init: number;
  let ofOutput = '';

  beforeAll(async () => {
    await writeFile(MARKER, 'of the host', { mode: 0o644 });
    drover = await startDrover({ config: { pool: { maxGuests: 1 } } });
    host = await nixHost({ drover });
    client = host.startBuild(
      host.derivation('observed', 'echo half > $out; echo "out: $out"; echo "it has begun"; sleep 86399'),
    );
    await client.waitForOutput('it has begun');
    ofOutput = /^out: (.*)$/m.exec(client.stderr)?.[1] ?? '';
    guest = await drover.onlyGuest();
    init = await guestInit(drover.stateDir, guest);
  });

  afterAll(async () => {
    client.signalGroup('SIGKILL');
    await client.ended;
    await drover[Symbol.asyncDispose]();
    await host[Symbol.asyncDispose]();
    await rm(MARKER, { force: true });
  });

  test('the root is read-only, and has nothing of the host but its store', async () => {
    for (const file of ['/usr/new', '/etc/new', '/new', '/bin/new', '/dev/new']) {
      expect((await inGuest(init, `echo > ${file}`)).output).toMatch(/Read-only file system/);
    }
    for (const file of [
      '/etc/shadow',
      '/etc/debian_version',
      '/home',
      '/var',
      '/work',
      MARKER,
      process.cwd(),
    ]) {
      expect(existsSync(file) ? (await inGuest(init, `ls -d ${file}`)).exitCode : 1).not.toBe(0);
    }
    expect((await inGuest(init, 'ls -A /root')).output).toBe('');
    expect(existsSync(`/proc/${init}/root/etc/passwd`)).toBe(true);
    expect(await readFile(`/proc/${init}/root/etc/passwd`, 'utf8')).not.toContain('www-data');
  });

  test('nothing is mounted from the host but the image, the store and device nodes', async () => {
    const mountinfo = await readFile(`/proc/${init}/mountinfo`, 'utf8');
    const sources = mountinfo
      .trim()
      .split('\n')
      .map((line) => {
        const [, , , root = '', target = '', flags = ''] = line.split(' ');
        return { root, target, flags: flags.split(','), type: / - (\S+) /.exec(line)?.[1] ?? '' };
      })
      .filter(({ type }) => !['tmpfs', 'proc', 'overlay', 'devpts', 'cgroup2'].includes(type));
    const places = new Map([
      ['/', `${drover.stateDir}/images/`],
      ['/etc', `${drover.stateDir}/etc/`],
      ['/nix/store', '/nix/store'], // below the overlay
    ]);
    for (const { root, target, flags } of sources) {
      if (target.startsWith('/dev/')) continue;
      expect(root).toContain(places.get(target));
      for (const flag of ['ro', 'nosuid', 'nodev', 'idmapped']) expect(flags).toContain(flag);
    }
    expect(sources.length).toBeGreaterThan(0);
  });

  test('no process of the host is seen, and the name is its own', async () => {
    for (const kind of ['pid', 'mnt', 'uts'] as const) {
      expect(await sameNamespace(kind, init, process.pid)).toBe(false);
    }
    const { output } = await inGuest(init, 'hostname; cat /proc/[0-9]*/cmdline | tr "\\0" " "');
    expect(output.split('\n')[0]).toBe(guest);
    expect(output).not.toContain('jest');
    // Words, since a name of a derivation ("observed") stands there, too.
    expect(output.split(/\s/)).not.toContain('serve');
    // A process of the guest may have the number that this one has on the host; the highest is too high for that.
    const highest = Math.max(...(await processes()).map(({ pid }) => pid));
    expect((await inGuest(init, `kill -0 ${highest}`)).output).toMatch(/No such process/);
  });

  test("a build runs as a user that the host has not, in Nix's sandbox", async () => {
    const sleep = (await guestProcesses(init)).find(({ command }) => command.includes('sleep 86399'));
    const status = await readFile(`/proc/${sleep?.pid ?? 0}/status`, 'utf8');
    const uid = Number(/^Uid:\t(\d+)/m.exec(status)?.[1]);
    // A Nix that builds on the host kills every process of its build user, 30001 and so on in most installations.
    expect(uid).toBeGreaterThan(1_000_000_000);
    expect(await readFile('/etc/passwd', 'utf8')).not.toContain(`:${uid}:`);

    const seen = succeeded(
      await host.build(
        host.derivation('sandbox', 'ls / /etc /nix/store /proc > $out; id -un >> $out; echo > /new || true'),
      ),
    );
    const lines = (await readFile(seen.outputs[0] ?? '', 'utf8')).split('\n');
    for (const absent of ['run', 'sbin', 'drover', 'shadow']) expect(lines).not.toContain(absent);
    expect(lines).toContain('nixbld');
    expect(lines.filter((line) => /^\d+$/.test(line)).length).toBeLessThan(5);
    expect(lines.filter((line) => /^[a-z0-9]{32}-/.test(line))).toEqual([basename(seen.outputs[0] ?? '')]);
  });

  test("the host's store is not written by a build, nor by the guest's root", async () => {
    expect(ofOutput).toMatch(/^\/nix\/store\//);
    expect(existsSync(ofOutput)).toBe(false);
    const path = `/nix/store/e2e-${host.id}-from-the-guest`;
    expect(await inGuest(init, `echo > ${path} && cat ${path}`)).toMatchObject({ exitCode: 0 });
    expect(existsSync(path)).toBe(false);
    const [valid = ''] = succeeded(await host.build(host.derivation('mine', 'echo mine > $out'))).outputs;
    expect((await inGuest(init, `chmod 644 ${valid}; echo theirs > ${valid}; cat ${valid}`)).output).toBe(
      'theirs',
    );
    expect(await readFile(valid, 'utf8')).toBe('mine\n');
  });

  test.each([
    ['command', 0],
    ['program', 1],
  ])('what ran a %s stays until the supervisor has read how that ended', async (_what, mode) => {
    const words = Buffer.from('/bin/true\0');
    const socket = connect({ path: join(drover.stateDir, 'guests', guest, 'run'), allowHalfOpen: true });
    const write = promisify((bytes: Uint8Array, done: (error?: Error | null) => void) => {
      socket.write(bytes, done);
    });
    try {
      await write(Buffer.concat([Buffer.of(words.length, 0, 0, mode), words]));
      const { value: frame } = (await socket.iterator({ destroyOnReturn: false }).next()) as {
        value: Buffer;
      };
      expect(frame).toEqual(Buffer.from('x\u0001\u0000\u0000\u0000\u0000', 'latin1'));
      // More than the socket takes by itself.
      await write(Buffer.alloc(4 * 1024 * 1024));
    } finally {
      socket.destroy();
    }
  });

  test('no process may set the clock, load a module, do raw I/O or reboot', async () => {
    // Only looked up, since an attempt that succeeds would be the host's loss.
    const bits = { sys_module: 16n, sys_rawio: 17n, sys_boot: 22n, sys_time: 25n };
    const status = await readFile(`/proc/${init}/status`, 'utf8');
    const bounding = BigInt(`0x${/^CapBnd:\t([0-9a-f]+)$/m.exec(status)?.[1] ?? 'f'.repeat(16)}`);
    const held = Object.entries(bits).filter(([, bit]) => (bounding >> bit) & 1n);
    expect(held.map(([name]) => name)).toEqual([]);
  });
});

describeE2e("a guest's scratch", [], () => {
  test('is bounded by guest.scratchSize, which a build that finds it full is told, and no other after it', async () => {
    await using drover = await startDrover({ config: { guest: { scratchSize: '48MiB' } } });
    await using host = await nixHost({ drover });
    // From now on the guest is not asked for some time how full it is.
    succeeded(await host.build(host.derivation('first', 'echo first > $out')));
    const { exitCode, stderr } = await host.build(
      host.derivation('large', 'dd if=/dev/zero of=$out bs=1M count=64'),
    );
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/No space left on device/);
    expect(stderr).toMatch(/drover: the guest's scratch \(.*\) is full; raise guest.scratchSize/);
    succeeded(await host.build(host.derivation('small', 'echo small > $out')));
  });

  test('that others have filled makes a build start again in another guest', async () => {
    await using drover = await startDrover({
      config: { pool: { maxGuests: 1, jobsPerGuest: 1 }, guest: { scratchSize: '48MiB' } },
    });
    await using host = await nixHost({ drover });
    const ofMegabytes = (name: string): string =>
      host.derivation(name, 'dd if=/dev/zero of=$out bs=1M count=27');
    succeeded(await host.build(ofMegabytes('first')));
    const { stderr } = succeeded(await host.build(ofMegabytes('second')));
    expect(stderr).toMatch(
      /The scratch of the guest g\d+ \(.*\) is full; building again in another guest \(1 of 2\)/,
    );
  });

  test('that several builds fill together is no failure: each gets a guest of its own', async () => {
    await using drover = await startDrover({
      config: { pool: { maxGuests: 1, jobsPerGuest: 4 }, guest: { scratchSize: '64MiB' } },
    });
    await using host = await nixHost({ drover });
    const builds = ['a', 'b', 'c', 'd'].map((name) =>
      host.startBuild(host.derivation(name, 'dd if=/dev/zero of=$out bs=1M count=30; sleep 1')),
    );
    for (const build of builds) succeeded(await build.ended);
  });
});
