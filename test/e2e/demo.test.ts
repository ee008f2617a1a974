import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { REPOSITORY } from '../support/drover.js';
import { processes, signalIfThere } from '../support/guests.js';
import { DEMO_CACHE, describeE2e } from '../support/requirements.js';
import { DEADLINE_MS, waitUntil, within } from '../support/wait.js';

const DEMO = join(REPOSITORY, 'dist/demo/demo/main.js');

/** Runs the demo to its end. */
async function runDemo(args: readonly string[], env: Readonly<Record<string, string>>) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [DEMO, ...args], {
    env,
    reject: false,
    timeout: DEADLINE_MS,
  });
  return { exitCode, stdout, stderr };
}

/** A demo that runs, with a directory for temporary files of its own. */
class Demo {
  said = '';
  readonly child: ChildProcess;
  readonly ended: Promise<number | NodeJS.Signals | null>;

  constructor(cache: string, env: NodeJS.ProcessEnv) {
    const args = [DEMO, '--small', '--cache', cache];
    // A process group of its own, as a shell makes for each command: Ctrl-C reaches all of it.
    this.child = spawn(process.execPath, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => (this.said += text));
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        resolve(signal ?? code);
      });
    });
  }

  async waitFor(text: string): Promise<void> {
    await waitUntil(`the words "${text}"`, () => this.said.includes(text)).catch((error: unknown) => {
      throw new Error(`${String(error)}; there was: ${this.said}`);
    });
  }

  signalGroup(signal: NodeJS.Signals): void {
    process.kill(-(this.child.pid ?? 0), signal);
  }
}

describeE2e('the demo', ['demo-packages'], () => {
  let temporary: string;
  let demo: Demo | undefined;

  beforeEach(async () => {
    temporary = await mkdtemp('/tmp/drover-test-');
  });

  afterEach(async () => {
    demo?.child.kill('SIGKILL');
    demo = undefined;
    for (const { pid } of await ofDemo()) signalIfThere(pid, 'SIGKILL');
    await rm(temporary, { recursive: true, force: true, maxRetries: 5 });
  });

  async function start(env: NodeJS.ProcessEnv = {}): Promise<Demo> {
    demo = new Demo(await realpath(DEMO_CACHE), { ...process.env, TMPDIR: temporary, ...env });
    return demo;
  }

  /** Its processes, or what its end has left of them. */
  async function ofDemo() {
    return (await processes()).filter(({ command }) => command.includes(temporary));
  }

  async function expectNothingLeft(): Promise<void> {
    expect(await readdir(temporary)).toEqual([]);
    await waitUntil('the end of all processes', async () => (await ofDemo()).length === 0);
  }

  test('is told twice to stop, and leaves nothing behind', async () => {
    const { ended } = await start();
    await demo?.waitFor(': building ');

    // Its cleaning up takes until this one ends.
    const supervisors = (await ofDemo()).filter(({ command }) => command.includes(' serve --config '));
    expect(supervisors).toHaveLength(1);
    for (const { pid } of supervisors) process.kill(pid, 'SIGSTOP');
    demo?.signalGroup('SIGINT');
    await demo?.waitFor('interrupted; cleaning up');
    demo?.signalGroup('SIGINT');
    for (const { pid } of supervisors) process.kill(pid, 'SIGCONT');

    expect(await within('its end', ended)).toBe(130);
    await expectNothingLeft();
  });

  test.each(['SIGTERM', 'SIGHUP'] as const)('is ended by %s, and leaves nothing behind', async (signal) => {
    const { ended } = await start();
    await demo?.waitFor(': building ');

    demo?.child.kill(signal);

    expect(await within('its end', ended)).toBe(130);
    await expectNothingLeft();
  });

  test('ends when the reader of its output is gone, and leaves nothing behind', async () => {
    const { ended, child } = await start();
    await demo?.waitFor(': building ');

    child.stdout?.destroy();

    expect(await within('its end', ended)).toBe(130);
    await expectNothingLeft();
  });

  test("uses a plain Nix, whatever the caller's environment says of another", async () => {
    const config = join(temporary, 'config');
    await mkdir(join(config, 'nix'), { recursive: true });
    await writeFile(join(config, 'nix/nix.conf'), 'not a setting\n');
    const { ended } = await start({
      XDG_CONFIG_HOME: config,
      NIX_STORE_DIR: '/nowhere/store',
      NIX_REMOTE: 'unix:///nowhere/socket',
      NIX_CONFIG: 'system = x86_64-linux\nmax-jobs = 4\nbuilders =',
    });

    await demo?.waitFor(': building ');

    demo?.signalGroup('SIGINT');
    expect(await within('its end', ended)).toBe(130);
  });

  test('gets nothing for a supervisor that cannot start', async () => {
    const file = join(temporary, 'drover.yaml');
    await writeFile(file, 'driver: qemu\n');

    const { exitCode, stdout, stderr } = await runDemo(['--config', file], { TMPDIR: temporary });

    expect(stdout).not.toContain('getting');
    expect(stderr).toContain('drover serve did not start:\ndrover: ');
    expect(exitCode).toBe(78);
    expect(await readdir(temporary)).toEqual(['drover.yaml']);
  });

  test.each([
    ['is not there', 'missing'],
    ['has a name with a space', 'a b'],
    ['has a name that is too long', 'l'.repeat(80)],
  ])('says so where the directory for temporary files %s', async (_, name) => {
    const directory = join(temporary, name);
    if (name !== 'missing') await mkdir(directory);

    const { exitCode, stderr } = await runDemo([], { TMPDIR: directory });

    expect(stderr).toContain(`The demo cannot use the directory ${directory} for its temporary files: `);
    expect(stderr).toContain('Set TMPDIR to another directory');
    expect(exitCode).toBe(78);
  });
});
