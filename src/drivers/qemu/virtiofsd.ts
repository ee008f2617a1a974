import { access, constants, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { startChild, type Child } from '../../lib/child.js';
import type { ConsoleLog } from '../../lib/console-log.js';
import { DroverError, errorCode } from '../../lib/errors.js';
import { run } from '../../lib/process.js';
import { findProgram } from '../../lib/programs.js';
import { DescriptorUse } from './descriptor-use.js';

/** Where distributions put it: it is for other programs to run, and so not on PATH. */
const USUAL_PLACES = ['/usr/libexec/virtiofsd', '/usr/lib/virtiofsd', '/usr/lib/qemu/virtiofsd'];
/** Shares read-only, and says so when it can open no more files. */
const LEAST_VERSION = [1, 13, 2] as const;
const POLL_INTERVAL_MS = 2;
const HINT =
  'Install virtiofsd 1.13.2 or later, or put one on PATH (Debian has it from 13 on: apt-get install virtiofsd; ' +
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
    if (isEnough(said)) return program;
    tooOld ??= `${program} is ${said === '' ? 'of an unknown version' : said}`;
  }
  throw new DroverError(
    'REQUIREMENT_MISSING',
    tooOld === undefined
      ? 'The program virtiofsd is neither on PATH nor where distributions put it'
      : `This virtiofsd is too old: ${tooOld}`,
    { hint: HINT },
  );
}

function isEnough(said: string): boolean {
  const version = /^virtiofsd (\d+)\.(\d+)\.(\d+)/.exec(said)?.slice(1).map(Number) ?? [];
  const [at] = LEAST_VERSION.flatMap((least, index) => (version[index] === least ? [] : [index]));
  return version.length > 0 && (at === undefined || (version[at] ?? 0) > (LEAST_VERSION[at] ?? 0));
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
  readonly directory: string;
  /** Whom everything belongs to that is written there; undefined: it is read-only. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
  readonly consoleLog: ConsoleLog;
  readonly signal: AbortSignal;
}

/** A virtiofsd, and the one connection that it serves. */
export interface SharedDirectory {
  readonly child: Child;
  readonly connection: Socket;
  readonly descriptors: DescriptorUse;
}

/**
 * Starts the server of one guest's view of a directory, such as the host's store, and connects to it. It ends with that
 * connection, and its socket is removed from the file system, so no other process can connect. It sees only
 * `directory`, and keeps no descriptor for files that the guest has only looked up (`--inode-file-handles`),
 * if the file system and its own privileges allow that; otherwise its `descriptors` says so.
 * @throws DroverError `BOOT_FAILED`, or the signal's reason; no process is left then
 */
export async function startVirtiofsd(spec: VirtiofsdSpec): Promise<SharedDirectory> {
  const child = await startChild(
    spec.setpriv === undefined ? undefined : [spec.setpriv],
    spec.program,
    [
      ...['--socket-path', spec.socket, '--shared-dir', spec.directory],
      ...(spec.owner === undefined ? ['--readonly'] : asOwner(spec.owner)),
      ...['--sandbox', 'namespace', '--inode-file-handles=prefer', '--cache=auto', '--log-level=warn'],
    ],
    ['ignore', 'pipe', 'pipe'],
  );
  for (const stream of [child.process.stdout, child.process.stderr])
    if (stream !== null) spec.consoleLog.follow(stream);
  const descriptors = new DescriptorUse(child.process.stderr);
  try {
    for (;;) {
      spec.signal.throwIfAborted();
      if (child.ended) throw new DroverError('BOOT_FAILED', `virtiofsd: ${await child.exited}`);
      const connection = await tryToConnect(spec.socket);
      if (connection !== undefined) {
        await rm(spec.socket, { force: true });
        return { child, connection, descriptors };
      }
      await delay(POLL_INTERVAL_MS);
    }
  } catch (error) {
    await child.kill();
    throw error;
  }
}

/** All users of the guest are the owner on the host, who is root in the guest. */
function asOwner({ uid, gid }: { readonly uid: number; readonly gid: number }): string[] {
  const all = 2 ** 32 - 1;
  return [
    ...['--translate-uid', `squash-guest:0:${uid}:${all}`, '--translate-uid', `host:${uid}:0:1`],
    ...['--translate-gid', `squash-guest:0:${gid}:${all}`, '--translate-gid', `host:${gid}:0:1`],
  ];
}

/** Undefined until it listens. */
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
