#!/usr/bin/env node
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { homedir, hostname, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runCli } from './cli/index.js';
import { screenOf } from './cli/screen.js';
import type { Config } from './config/schema.js';
import { connectProgram } from './doors/socket-door.js';
import type { GuestDriver } from './guest/driver.js';
import { NamespaceDriver, namespaceSystems } from './drivers/namespace/driver.js';
import { memoryOfVm } from './drivers/vm/identity.js';
import { firstThatWorks, type DriverCandidate } from './drivers/registry.js';
import { hostStore } from './host-store/host-store.js';
import { EXIT } from './lib/error-codes.js';
import { errorCode, errorMessage } from './lib/errors.js';
import { openLog } from './lib/log.js';
import { makeTerminalRaw } from './lib/native.js';
import { printableColours, printableLines } from './lib/printable.js';
import { OOM_SCORE, setOomScore } from './lib/process.js';
import { StateDir } from './lib/state-dir.js';
import { serveUntilSignal } from './serve.js';
import { Supervisor } from './supervisor.js';

/** Drover's own directory: this file is in its `dist`. */
const PACKAGE_DIR = fileURLToPath(new URL('..', import.meta.url));
const NAMESPACE_HELPER = join(PACKAGE_DIR, 'dist/drover-namespace');
const STORE_DIR = '/nix/store';
const { env } = process;
const { version } = JSON.parse(readFileSync(join(PACKAGE_DIR, 'package.json'), 'utf8')) as {
  version: string;
};

const GIB_BYTES = 1024 ** 3;

/** Options common to all drivers. */
function driverOptions({ stateDir, pool, features, guest }: Config) {
  const { jobsPerGuest: maxJobs, maxGuests } = pool;
  return { stateDir, env, storeDir: STORE_DIR, maxJobs, maxGuests, features, guest };
}

/** The same for drivers of VMs, which take only what they use of these sizes. */
function vmOptions(config: Config, native = false) {
  const { memoryBytes = memoryOfVm(totalmem()), scratchSizeBytes = 20 * GIB_BYTES, ...guest } = config.guest;
  return { ...driverOptions(config), native, guest: { ...guest, memoryBytes, scratchSizeBytes } };
}

/**
 * Every driver there is, the best first.
 * @param native whether only an image for this host's own architecture will do
 */
function drivers(config: Config, native: boolean): readonly DriverCandidate[] {
  const common = driverOptions(config);
  return [
    {
      name: 'vz',
      create: async () => {
        const { VzDriver } = await import('./drivers/vz/driver.js');
        return await VzDriver.create({ ...vmOptions(config, native), helper: vzHelper() });
      },
    },
    {
      name: 'namespace',
      create: () =>
        NamespaceDriver.create({
          ...common,
          scripts: join(PACKAGE_DIR, 'guest-config'),
          helper: NAMESPACE_HELPER,
        }),
    },
    {
      name: 'qemu',
      create: async () => {
        const { QemuDriver } = await import('./drivers/qemu/driver.js');
        return await QemuDriver.create({ ...vmOptions(config, native), helper: NAMESPACE_HELPER });
      },
    },
  ];
}

/** Where the package has it; a checkout has none. */
function vzHelper(): string {
  return env['DROVER_VZ_HELPER'] ?? join(PACKAGE_DIR, 'libexec/vz-helper');
}

/** Tells if `driver: auto` tries the driver on this host. QEMU on a Mac shares no store, so it must be named. */
function suits(name: string, { guest }: Config): boolean {
  if (process.platform === 'darwin') return name === 'vz';
  return name === 'namespace' || (name === 'qemu' && guest.image !== undefined);
}

async function createDriver(config: Config, native = false): Promise<GuestDriver> {
  const wanted = drivers(config, native).filter(({ name }) =>
    config.driver === 'auto' ? suits(name, config) : name === config.driver,
  );
  return await firstThatWorks(wanted);
}

/** Systems that guests could build, found without a supervisor. */
async function systems(config: Config): Promise<readonly string[]> {
  const { driver, guest } = config;
  if (driver === 'vz' || (driver === 'auto' && process.platform === 'darwin')) {
    // x86_64-linux takes Rosetta.
    const { VzDriver } = await import('./drivers/vz/driver.js');
    return await VzDriver.systems({ ...vmOptions(config), helper: vzHelper() });
  }
  const inVms = driver === 'qemu' || (driver === 'auto' && process.getuid?.() !== 0);
  if (!inVms || guest.image === undefined) return await namespaceSystems();
  const { loadImage } = await import('./drivers/vm/image.js');
  return (await loadImage(guest.image)).systems;
}

async function serve(config: Config, file: string | undefined, load: () => Promise<Config>): Promise<number> {
  await setOomScore('self', OOM_SCORE.supervisor);
  const serviceLog = await openLog(config.log, env);
  const start = async (): Promise<Supervisor> =>
    await Supervisor.start({
      config,
      version,
      host: hostStore(env, new StateDir(config.stateDir).hostDaemon),
      createDriver: (guests) => createDriver(guests),
      createMachineDriver: (machine) => createDriver(machine, true),
      connectProgram: join(PACKAGE_DIR, 'dist/drover-connect'),
      sshServerProgram: join(PACKAGE_DIR, 'dist/doors/ssh/server-main.js'),
      log: serviceLog.log,
    });
  return await serveUntilSignal(start, { config, file, load, log: serviceLog });
}

/** Everything that commands print passes here, so that no text of a guest or a client reaches the terminal as it is. */
function safe(to: NodeJS.WriteStream, text: string): string {
  return to.isTTY ? printableColours(text) : printableLines(text);
}

process.stdout.on('error', (error) => {
  // The reader has read enough, as `head` does.
  if (errorCode(error) === 'EPIPE') process.exit(EXIT.ok);
  process.stderr.write(`drover: cannot write the output: ${errorMessage(error)}\n`);
  process.exit(EXIT.failure);
});
// Files that guests read must be readable there, whatever the caller's umask. Drover's own files name their modes.
process.umask(0o022);
process.exitCode = await runCli(process.argv.slice(2), {
  version,
  env,
  uid: process.getuid?.() ?? -1,
  home: homedir(),
  defaultConfigFile: '/etc/drover/drover.yaml',
  print: (text) => process.stdout.write(safe(process.stdout, text)),
  printAll: async (parts) => {
    for await (const part of parts) {
      const output = typeof part === 'string' ? safe(process.stdout, part) : part;
      if (!process.stdout.write(output)) await once(process.stdout, 'drain');
    }
  },
  steer: (sequence) => process.stdout.write(sequence),
  screen: () => screenOf(process.stdout, env),
  interrupted: () => {
    const interrupted = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        interrupted.abort();
      });
    }
    return interrupted.signal;
  },
  programIo: () => ({
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    makeRaw: () => {
      const cook = makeTerminalRaw(process.stdin.fd);
      process.once('exit', cook);
      return cook;
    },
    onSignal: (signal, handler) => {
      process.on(signal, handler);
      return () => process.off(signal, handler);
    },
  }),
  printError: (text) => process.stderr.write(safe(process.stderr, text)),
  storeDir: STORE_DIR,
  createDriver: (config) => createDriver(config),
  serve,
  systems,
  hostKey: async ({ stateDir }) => {
    const { readHostKey } = await import('./doors/host-key.js');
    return (await readHostKey(new StateDir(stateDir).sshHostKey))?.publicKey;
  },
  connectProgram: ({ doors }) => connectProgram(doors.socket.path),
  hostName: hostname(),
  cwd: process.cwd(),
});
