import { access, chmod, constants, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { StateDir } from '../../lib/state-dir.js';
import { failure, ok, skipped, warning, type Check, type Finding } from '../check.js';

/** No build of Drover is older, in milliseconds since 1970. */
const EARLIEST_NOW_MS = Date.UTC(2026, 0, 1);

const supervisor: Check = {
  id: 'supervisor',
  title: 'A supervisor is running',
  run: ({ status, config }) => {
    if (status === undefined)
      return Promise.resolve(
        warning(
          `nothing answers at ${new StateDir(config.stateDir).controlSocket}`,
          'Start it: drover serve',
        ),
      );
    if (status.state === 'draining')
      return Promise.resolve(
        warning(`pid ${status.pid} is draining`, 'Wait until it has ended, and start it again.'),
      );
    return Promise.resolve(ok(`pid ${status.pid}, since ${status.startedAt}`));
  },
};

const stateDirectory: Check = {
  id: 'state-directory',
  title: 'The state directory is private and usable',
  run: async ({ config: { stateDir }, uid }) => {
    const found = await stat(stateDir).catch(() => undefined);
    if (found === undefined) return skipped(`${stateDir} does not exist yet: the first start makes it`);
    if (!found.isDirectory()) return failure(`${stateDir} is not a directory`, 'Choose another stateDir.');
    if (uid === 0 && found.uid !== 0)
      return failure(
        `${stateDir} belongs to user ${found.uid}`,
        `chown root ${stateDir}, or choose another stateDir.`,
      );
    return await modeIs(stateDir, found.mode, 0o700);
  },
};

const mountOptions: Check = {
  id: 'state-mount',
  title: 'Programs can run from the state directory',
  run: async ({ config: { stateDir }, platform }) => {
    if (platform !== 'linux') return skipped('only checked on Linux');
    const mounts = await readFile('/proc/self/mounts', 'utf8');
    const options = mountOptionsOf(stateDir, mounts);
    return options.includes('noexec')
      ? failure(
          `${stateDir} is on a file system that is mounted noexec`,
          'Choose a stateDir elsewhere, or remount it with exec.',
        )
      : ok(`mounted with ${options.join(',')}`);
  },
};

/** Options of the file system that holds `path`, as /proc/self/mounts has them. */
export function mountOptionsOf(path: string, mounts: string): readonly string[] {
  const holding = mounts
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, point = '']) => point === '/' || path === point || path.startsWith(`${point}/`))
    .sort(([, a = ''], [, b = '']) => a.length - b.length)
    .at(-1);
  return (holding?.[3] ?? '').split(',');
}

const socketDoor: Check = {
  id: 'socket-door',
  title: 'The socket door is reachable by its owner only',
  run: async ({ config, status }) => {
    const { path } = config.doors.socket;
    const found = await stat(path).catch(() => undefined);
    if (found === undefined)
      return status === undefined
        ? skipped('opens when the supervisor starts')
        : failure(`${path} is missing`, 'Restart drover.');
    const directory = await stat(dirname(path));
    const inDirectory = await modeIs(dirname(path), directory.mode, 0o700);
    return inDirectory.status === 'ok' ? await modeIs(path, found.mode, 0o600) : inDirectory;
  },
};

async function modeIs(path: string, mode: number, wanted: number): Promise<Finding> {
  if ((mode & 0o777 & ~wanted) === 0) return ok(`${path}, mode 0${(mode & 0o777).toString(8)}`);
  const octal = wanted.toString(8);
  return Promise.resolve({
    ...failure(
      `other users can reach ${path} (mode 0${(mode & 0o777).toString(8)})`,
      `chmod ${octal} ${path}`,
    ),
    repair: () => chmod(path, wanted),
  });
}

const connectProgram: Check = {
  id: 'connect-program',
  title: "Nix's program for the socket door can be started",
  run: async ({ connectProgram: program, status }) => {
    const usable = await access(program, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (usable) return ok(program);
    return status === undefined
      ? skipped('made when the supervisor starts')
      : failure(`${program} cannot be started`, 'Restart drover.');
  },
};

const clock: Check = {
  id: 'clock',
  title: "The host's clock is plausible",
  run: () => {
    const now = Date.now();
    const seen = new Date(now).toISOString();
    return Promise.resolve(
      now < EARLIEST_NOW_MS
        ? failure(`it is ${seen} here`, 'Set the clock: guests and TLS follow it.')
        : ok(seen),
    );
  },
};

const driver: Check = {
  id: 'driver',
  title: 'Guests can be made on this host',
  run: async ({ config, createDriver }) => {
    const stateDir = await mkdtemp(join(tmpdir(), 'drover-doctor-'));
    try {
      const made = await createDriver({ ...config, stateDir });
      const { nixVersion, systems } = made.manifest;
      const seen = `${made.name} guests with Nix ${nixVersion}, for ${systems.join(', ')}`;
      const [first] = made.warnings;
      return first === undefined
        ? ok(seen)
        : warning(`${seen}; ${made.warnings.join('; ')}`, 'See docs/drivers.md.');
    } finally {
      await rm(stateDir, { recursive: true, force: true });
    }
  },
};

const systems: Check = {
  id: 'systems',
  title: 'Every configured system is served',
  run: ({ status, config }) => {
    if (status === undefined) return Promise.resolve(skipped('needs a running supervisor'));
    const missing = (config.systems ?? []).filter((system) => !status.systems.includes(system));
    return Promise.resolve(
      missing.length === 0
        ? ok(status.systems.join(', '))
        : failure(`${missing.join(', ')} is configured but not served`, 'See drover status for the reason.'),
    );
  },
};

export const HOST_CHECKS: readonly Check[] = [
  supervisor,
  stateDirectory,
  mountOptions,
  socketDoor,
  connectProgram,
  clock,
  driver,
  systems,
];
