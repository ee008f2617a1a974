import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { execa } from 'execa';

import { REPOSITORY } from './drover.js';
import { within, waitUntil } from './wait.js';

const SCRIPT = join(REPOSITORY, 'test/support/systemd.sh');

interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * A real systemd as process 1 of namespaces of its own: what is in force in a unit is in force here. Its root is the
 * host's, with everything that is written thrown away.
 */
export class Systemd implements AsyncDisposable {
  readonly #dir: string;
  readonly #cgroup: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #pid = '';

  private constructor(dir: string, cgroup: string) {
    this.#dir = dir;
    this.#cgroup = cgroup;
    this.#child = spawn(
      'sh',
      // Namespaces of cgroups begin at the cgroup that they are made in.
      [
        '-c',
        'echo $$ > "$1/cgroup.procs"; shift; exec "$@"',
        'sh',
        cgroup,
        ...[
          'setpriv',
          '--pdeathsig',
          'KILL',
          'unshare',
          '--propagation',
          'private',
          '--mount',
          '--pid',
          '--fork',
        ],
        ...['--kill-child=KILL', '--uts', '--ipc', '--cgroup', 'sh', SCRIPT, dir, REPOSITORY],
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    );
    this.#exited = new Promise((resolve) => this.#child.once('close', resolve));
  }

  /**
   * Starts systemd, and waits until it answers.
   * @param units texts of units by their names; `test.target` wants what is to run
   * @param etc texts of other files below /etc, by their paths there
   */
  static async start(
    units: Readonly<Record<string, string>>,
    etc: Readonly<Record<string, string>>,
  ): Promise<Systemd> {
    const dir = await mkdtemp('/var/tmp/drover-systemd-');
    for (const name of ['units', 'etc', 'root', 'scratch', 'cgroups']) await mkdir(join(dir, name));
    for (const [name, text] of Object.entries(units)) await writeFile(join(dir, 'units', name), text);
    for (const [path, text] of Object.entries(etc)) {
      await mkdir(join(dir, 'etc', path, '..'), { recursive: true });
      await writeFile(join(dir, 'etc', path), text);
    }
    const mounted = join(dir, 'cgroups');
    await execa('mount', ['-t', 'cgroup2', 'cgroup2', mounted]);
    const cgroup = join(mounted, basename(dir));
    await mkdir(cgroup);
    const systemd = new Systemd(dir, cgroup);
    try {
      await waitUntil('systemd to answer', async () => {
        systemd.#pid ||= await systemd.#findPid();
        if (systemd.#pid === '') return false;
        // The host's own systemd, which answers until there is another root, has no such unit.
        const { stdout } = await systemd.run('systemctl', 'show', '-p', 'LoadState', 'test.target');
        return stdout === 'LoadState=loaded';
      });
      return systemd;
    } catch (error) {
      const said = await readFile(join(dir, 'console'), 'utf8').catch(() => '');
      await systemd[Symbol.asyncDispose]();
      throw new Error(`${String(error)}; systemd said: ${said}`);
    }
  }

  /** Its process 1, as the host sees it: unshare has one child. */
  async #findPid(): Promise<string> {
    const { stdout } = await execa('pgrep', ['-P', String(this.#child.pid)], { reject: false });
    return stdout.trim();
  }

  /** Runs a program inside, as root and without what binds the units. A failure is a result. */
  async run(program: string, ...args: readonly string[]): Promise<Ran> {
    const result = await execa(
      'nsenter',
      [
        ...['--target', this.#pid, '--mount', '--pid', '--uts', '--ipc', '--cgroup'],
        ...[`--root=/proc/${this.#pid}/root`, `--wd=/proc/${this.#pid}/root`, program, ...args],
      ],
      { reject: false },
    );
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
  }

  /** Writes a file inside. */
  async writeFile(path: string, text: string): Promise<void> {
    const file = join(this.#dir, 'file');
    await writeFile(file, text);
    await cp(file, join(`/proc/${this.#pid}/root`, path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await within('the end of systemd', this.#exited);
    // The kernel empties it as the processes end.
    await waitUntil('the end of its cgroup', async () => {
      const { stdout } = await execa('find', [this.#cgroup, '-depth', '-type', 'd'], { reject: false });
      for (const cgroup of stdout.split('\n')) await rmdir(cgroup).catch(() => undefined);
      return !existsSync(this.#cgroup);
    });
    await execa('umount', [dirname(this.#cgroup)]);
    await rm(this.#dir, { recursive: true, force: true });
  }
}
