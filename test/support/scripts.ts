import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { execa } from 'execa';

import { REPOSITORY } from './drover.js';

export interface ScriptResult {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory in which shell scripts of this repository find what would be the whole machine for them. */
export class ScriptWorld {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async make(): Promise<ScriptWorld> {
    const world = new ScriptWorld(await mkdtemp(join(tmpdir(), 'drover-scripts-')));
    await mkdir(join(world.dir, 'bin'));
    return world;
  }

  async remove(): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
  }

  path(...parts: readonly string[]): string {
    return join(this.dir, ...parts);
  }

  /** Writes a file, and the directories that it is in. */
  async write(name: string, content: string | Uint8Array): Promise<string> {
    const file = this.path(name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
    return file;
  }

  async read(name: string): Promise<string> {
    return await readFile(this.path(name), 'utf8').catch(() => '');
  }

  /** Puts a program before the real one: it notes how it was called, and then does what `body`, shell, says. */
  async double(name: string, body = ''): Promise<void> {
    const file = await this.write(
      `bin/${name}`,
      `#!/bin/sh\necho "${name} $*" >> ${this.dir}/calls\n${body}\n`,
    );
    await chmod(file, 0o755);
  }

  /** How doubles were called, one a line. */
  async calls(): Promise<string> {
    return await this.read('calls');
  }

  /** Output of the scripts on the guest's console. */
  async console(): Promise<string> {
    return await this.read('console');
  }

  /** Environment of a script. */
  env(): Record<string, string> {
    return {
      PATH: `${this.path('bin')}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
      HOME: this.dir,
      DROVER_CONSOLE: this.path('console'),
      DROVER_SYS: this.path('sys'),
      DROVER_DEV: this.path('dev'),
      DROVER_PROC: this.path('proc'),
    };
  }

  /** @param shell the words that a script is run by */
  async run(
    script: string,
    args: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
    shell: readonly string[] = ['sh'],
  ): Promise<ScriptResult> {
    const [program = 'sh', ...before] = shell;
    const { exitCode, stdout, stderr } = await execa(
      program,
      [...before, join(REPOSITORY, script), ...args],
      {
        reject: false,
        extendEnv: false,
        env: { ...this.env(), ...env },
        stdin: 'ignore',
      },
    );
    return { exitCode, stdout, stderr };
  }
}
