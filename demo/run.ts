import { mkdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { parse, stringify } from 'yaml';
import { z } from 'zod';

import { fetchStatus, followEvents } from '../src/control/client.js';
import { count, humanBytes } from '../src/lib/human.js';
import { readChecks, runCheck } from './checks.js';
import { makeDemoDirectory, plainEnv } from './directory.js';
import { Narrator } from './narrator.js';
import { DemoError, outputOf, start, tailOf, type Running, type StartOptions } from './processes.js';

export interface DemoOptions {
  /** Directory for downloads; undefined: in the demo's temporary directory. */
  readonly cache: string | undefined;
  /** Only the smaller half of the graph. */
  readonly small: boolean;
  /** A configuration to start from; the demo overrides paths and the idle timeout. */
  readonly config: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Drover's own directory, which has the program to start. */
  readonly packageDir: string;
  readonly command: readonly [program: string, ...args: string[]];
  readonly print: (text: string) => void;
  /** Width of the terminal; undefined: 80. */
  readonly columns: number | undefined;
  /** Settles when the reader of the output is gone. */
  readonly outputLost: Promise<void>;
}

/** Exit status of an interrupted program, as shells have it. */
const INTERRUPTED = 130;

/** Idle timeout in the demo: long enough to see a guest, short enough to wait for its end. */
const IDLE_TIMEOUT = '3s';

/** The parts of a checked configuration that the demo overrides. */
const baseSchema = z.looseObject({ pool: z.looseObject({}).optional() });

/**
 * Builds a graph of real packages with a real Nix that plays a Mac, in guests of a separate supervisor, and
 * prints what happens. Writes only to a temporary directory and the Nix store; the directory is always
 * removed.
 * @throws DemoError, with the status 130 after SIGINT, SIGTERM or SIGHUP; DroverError
 */
export async function demo(options: DemoOptions): Promise<void> {
  const directory = await makeDemoDirectory();
  const run = new DemoRun({ ...options, env: plainEnv(options.env, directory) }, directory);
  const interrupted = new Promise<never>((_, reject) => {
    let told = false;
    const interrupt = (): void => {
      if (!told) run.tellInterrupted();
      told = true;
      reject(new DemoError('The demo was interrupted', INTERRUPTED));
    };
    // The handlers stay: after a second signal, as from an impatient user, the demo still cleans up.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupt);
    void options.outputLost.then(interrupt);
  });
  try {
    await Promise.race([run.play(), interrupted]);
  } finally {
    await run.cleanUp();
  }
  run.tellNext();
}

class DemoRun {
  readonly #options: DemoOptions;
  readonly #directory: string;
  readonly #tell: Narrator;
  readonly #running: Running[] = [];

  constructor(options: DemoOptions, directory: string) {
    this.#options = options;
    this.#directory = directory;
    this.#tell = new Narrator(options.print, options.columns);
  }

  async play(): Promise<void> {
    const { small } = this.#options;
    const tell = this.#tell;
    tell.plain(
      'This machine plays a Mac: its Nix is told that it is aarch64-darwin, so it cannot build for Linux by itself. Everything below is built by Drover, in guests that do not exist yet.',
    );
    tell.plain();
    // First the steps that may fail, such as without root; then the slow ones.
    const configFile = await this.#startSupervisor();
    const stateDir = join(this.#directory, 'state');
    const { guests, page } = await fetchStatus(stateDir);
    tell.say(`drover serve is up; guests: ${guests.length}`);
    tell.say(`look at it while it runs: ${page ?? ''}`);
    const cache = await this.#fetchInputs();
    tell.restart();
    const zero = this.#followToZero(await followEvents(stateDir));
    const output = await this.#build(cache, configFile, small ? 'smaller' : 'all');
    await this.#checkOutputs(output);
    await this.#tellTotals(stateDir);
    tell.say(`nothing left to build; waiting for the guests to be idle for ${IDLE_TIMEOUT}`);
    await zero;
    tell.say(`guests: ${(await fetchStatus(stateDir)).guests.length}`);
  }

  /** Suggestions for the reader's next steps. */
  tellNext(): void {
    this.#tell.plain();
    this.#tell.plain('To use Drover for your own builds:');
    this.#tell.plain('  dist/main.js serve      runs it; as a service: docs/linux.md, docs/mac.md');
    this.#tell.plain('  dist/main.js machines   prints the line for nix.conf that sends builds to it');
    this.#tell.plain('  dist/main.js doctor     checks the host, Nix and a first build');
  }

  tellInterrupted(): void {
    this.#tell.say('interrupted; cleaning up');
  }

  /** Ends all that was started, in reverse order, and removes the temporary directory. */
  async cleanUp(): Promise<void> {
    for (const { child, ended } of this.#running.splice(0).reverse()) {
      child.kill('SIGTERM');
      await ended.catch(() => undefined);
    }
    // Retried: processes of Nix may not have ended yet.
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 });
    this.#tell.say('the supervisor has ended, and its directory is removed');
  }

  async #fetchInputs(): Promise<string> {
    const cache = this.#options.cache ?? join(this.#directory, 'cache');
    await mkdir(cache, { recursive: true });
    this.#tell.say('getting a C toolchain and the sources of the packages (85 MB of Debian packages)');
    await outputOf(
      this.#start(
        'bash',
        [join(this.#options.packageDir, 'demo/fetch.sh'), cache],
        'fetch.log',
        this.#options.env,
        {
          onOutput: (line) => {
            // Files of a list are indented.
            if (!line.startsWith(' ')) this.#tell.say(line);
          },
        },
      ),
    );
    return await realpath(cache);
  }

  async #startSupervisor(): Promise<string> {
    const configFile = join(this.#directory, 'drover.yaml');
    const { config: baseFile } = this.#options;
    const base =
      baseFile === undefined ? {} : baseSchema.parse(parse(await readFile(baseFile, 'utf8')) ?? {});
    const config = {
      ...base,
      stateDir: join(this.#directory, 'state'),
      pool: { ...base.pool, idleTimeout: IDLE_TIMEOUT, drainTimeout: '1s' },
      doors: {},
      metrics: { listen: '127.0.0.1:0' },
    };
    await writeFile(configFile, stringify(config));
    const [program, ...args] = this.#options.command;
    await new Promise<void>((resolve, reject) => {
      const serve = this.#start(
        program,
        [...args, 'serve', '--config', configFile],
        'serve.log',
        this.#options.env,
        {
          onLine: (line) => {
            if (line.includes('"drover is ready"')) resolve();
          },
        },
      );
      serve.ended.then(async (status) => {
        reject(
          new DemoError(
            `drover serve did not start:\n${await tailOf(serve.logFile)}`,
            typeof status === 'number' && status !== 0 ? status : undefined,
          ),
        );
      }, reject);
    });
    return configFile;
  }

  /** Prints events; settles when guests existed and the last one has ended. */
  async #followToZero(events: Awaited<ReturnType<typeof followEvents>>): Promise<void> {
    const alive = new Set<string>();
    for await (const event of events) {
      this.#tell.event(event);
      if (event.type !== 'guest-state') continue;
      if (event.to === 'stopped' || event.to === 'failed') alive.delete(event.guest);
      else alive.add(event.guest);
      if (alive.size === 0) return;
    }
  }

  async #build(cache: string, configFile: string, attribute: string): Promise<string> {
    const [program, ...args] = this.#options.command;
    const line = await outputOf(
      this.#start(program, [...args, 'machines', '--config', configFile], 'machines.log', this.#options.env),
    );
    const confDir = join(this.#directory, 'nix');
    await mkdir(confDir);
    await writeFile(
      join(confDir, 'nix.conf'),
      [
        'system = aarch64-darwin',
        'max-jobs = 0',
        'substituters =',
        'build-users-group =',
        'sandbox = false',
        `builders = ${line.trim()}`,
        '',
      ].join('\n'),
    );
    const env = { ...this.#options.env, NIX_CONF_DIR: confDir };
    this.#tell.say(`nix-build demo/packages.nix -A ${attribute}`);
    const output = await outputOf(
      this.#start(
        'nix-build',
        [
          join(this.#options.packageDir, 'demo/packages.nix'),
          ...['--arg', 'cache', `/. + ${JSON.stringify(cache)}`, '-A', attribute, '--no-out-link'],
          // New packages for each run; the toolchain, once built, is an existing input.
          ...['--argstr', 'variant', `demo ${process.pid} ${Date.now()}`, '--argstr', 'toolchainVariant', ''],
        ],
        'build.log',
        env,
      ),
    );
    const path = output.trim();
    await outputOf(this.#start('nix-store', ['--check-validity', path], 'validity.log', env));
    this.#tell.say(`${path} is valid in this machine's store`);
    return path;
  }

  async #checkOutputs(output: string): Promise<void> {
    const checks = await readChecks(join(this.#options.packageDir, 'demo/checks.json'));
    for (const check of checks) {
      const link = join(output, check.package);
      const path = await realpath(link).catch(() => undefined);
      if (path !== undefined)
        this.#tell.say(`running ${check.package}: ${await runCheck(check, path, this.#directory)}`);
    }
  }

  async #tellTotals(stateDir: string): Promise<void> {
    const { totals } = await fetchStatus(stateDir);
    this.#tell.say(
      `${count(totals.builds, 'build')} in ${count(totals.guestsBooted, 'guest')}; inputs: ${count(totals.sharedPaths, 'path')} shared (${humanBytes(totals.sharedBytes)}), ` +
        `${totals.copiedPaths} copied (${humanBytes(totals.copiedBytes)})`,
    );
  }

  #start(
    program: string,
    args: readonly string[],
    log: string,
    env: NodeJS.ProcessEnv,
    listeners: Pick<StartOptions, 'onLine' | 'onOutput'> = {},
  ): Running {
    const running = start(program, args, {
      env,
      logFile: join(this.#directory, log),
      ...listeners,
    });
    this.#running.push(running);
    running.ended
      .catch(() => undefined)
      .finally(() => {
        const at = this.#running.indexOf(running);
        if (at >= 0) this.#running.splice(at, 1);
      });
    return running;
  }
}
