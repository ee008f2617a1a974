import { access, constants, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { startChild, type Child } from '../../lib/child.js';
import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError, errorCode } from '../../lib/errors.js';
import { run } from '../../lib/process.js';
import { findProgram } from '../../lib/programs.js';

/** Where distributions put it: it is for other programs to run, and so not on PATH. */
const USUAL_PLACES = ['/usr/libexec/virtiofsd', '/usr/lib/virtiofsd', '/usr/lib/qemu/virtiofsd'];
/** The first one that shares read-only. */
const LEAST_VERSION = [1, 13] as const;
const POLL_INTERVAL_MS = 2;
const HINT =
  'Install virtiofsd 1.13 or later, or put one on PATH (Debian has it from 13 on: apt-get install virtiofsd; ' +
  'for an older Debian: scripts/get-qemu.sh).';

/**
 * A virtiofsd that can do what guests need.
 * @throws DroverError `REQUIREMENT_MISSING`
 */
export async function findVirtiofsd(env: NodeJS.ProcessEnv): Promise<string> {
  const onPath = await findProgram(env, 'virtiofsd');
  let tooOld: string | undefined;
  for (const program of onPath === undefined ? USUAL_PLACES : [onPath, ...USUAL_PLACES]) {
    if (!(await isExecutable(program))) continue;
    const { stdout, stderr } = await run(program, ['--version'], { env });
    const said = `${stdout}${stderr}`.trim().split('\n')[0] ?? '';
    const [, major, minor] = /^virtiofsd (\d+)\.(\d+)/.exec(said) ?? [];
    if (isEnough(Number(major), Number(minor))) return program;
    tooOld ??= `${program} is ${said === '' ? 'of an unknown version' : said}`;
  }
  throw new DroverError(
    'REQUIREMENT_MISSING',
    tooOld === undefined
      ? 'The program virtiofsd is neither on PATH nor where distributions put it'
      : `This virtiofsd cannot share a store read-only: ${tooOld}`,
    { hint: HINT },
  );
}

function isEnough(major: number, minor: number): boolean {
  return major > LEAST_VERSION[0] || (major === LEAST_VERSION[0] && minor >= LEAST_VERSION[1]);
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface VirtiofsdSpec {
  readonly program: string;
  readonly setpriv: string | undefined;
  readonly socket: string;
  /** Shared read-only. */
  readonly directory: string;
  readonly consoleLog: ConsoleLog;
  readonly signal: AbortSignal;
}

/** A virtiofsd, and the one connection that it serves. */
export interface SharedStore {
  readonly child: Child;
  readonly connection: Socket;
}

/**
 * Starts the server of one guest's view of the host's store, and connects to it. It ends when the connection does, and
 * its socket is gone from the file system: nobody else can connect. It sees nothing but `directory`, and keeps no
 * descriptor for what the guest has only looked at (`--inode-file-handles`), where the file system and its own
 * privileges allow that.
 * @throws DroverError `BOOT_FAILED`, or the signal's reason; nothing of it runs then
 */
export async function startVirtiofsd(spec: VirtiofsdSpec): Promise<SharedStore> {
  const child = startChild(
    spec.setpriv === undefined ? undefined : [spec.setpriv],
    spec.program,
    [
      ...['--socket-path', spec.socket, '--shared-dir', spec.directory, '--readonly'],
      ...['--sandbox', 'namespace', '--inode-file-handles=prefer', '--cache=auto', '--log-level=error'],
    ],
    ['ignore', 'pipe', 'pipe'],
  );
  for (const stream of [child.process.stdout, child.process.stderr])
    if (stream !== null) spec.consoleLog.follow(stream);
  try {
    for (;;) {
      spec.signal.throwIfAborted();
      if (child.ended) throw new DroverError('BOOT_FAILED', `virtiofsd: ${await child.exited}`);
      const connection = await tryToConnect(spec.socket);
      if (connection !== undefined) {
        await rm(spec.socket, { force: true });
        return { child, connection };
      }
      await delay(POLL_INTERVAL_MS);
    }
  } catch (error) {
    await child.kill();
    throw error;
  }
}

/** Undefined where nobody listens yet. */
async function tryToConnect(path: string): Promise<Socket | undefined> {
  return await new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      resolve(socket);
    });
    socket.once('error', (error) => {
      if (['ENOENT', 'ECONNREFUSED'].includes(errorCode(error) ?? '')) resolve(undefined);
      else reject(error);
    });
  });
}
