import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

import { execa } from 'execa';

import { waitUntil } from './wait.js';

/** A process, as the host sees it. */
export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Its arguments, separated by blanks. */
  readonly command: string;
}

/** All processes of this machine, those in guests included. */
export async function processes(): Promise<Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const [command, stat] = await Promise.all([procFile(pid, 'cmdline'), procFile(pid, 'stat')]);
      const parent = Number(/^\d+ \(.*\) \S (\d+) /s.exec(stat)?.[1] ?? 0);
      return { pid, parent, command: command.replaceAll('\0', ' ').trim() };
    }),
  );
  return found.filter(({ parent }) => parent !== 0);
}

/** Process 1 of a guest, by the host's number. */
export async function guestInit(stateDir: string, guest: string): Promise<number> {
  return await waitUntil(`process 1 of ${guest}`, async () => {
    const all = await processes();
    // The arguments of drover-namespace contain the guest's directory. Its child, process 1 of the guest, has
    // the same ones, and so have the children of that which serve the supervisor's commands.
    const same = all.filter(
      ({ command }) =>
        command.includes('/drover-namespace ') && command.includes(` dir=${stateDir}/guests/${guest} `),
    );
    const outer = same.find(({ parent }) => same.every(({ pid }) => pid !== parent));
    return same.find(({ parent }) => parent === outer?.pid)?.pid;
  });
}

/** The processes in a guest, those in the sandboxes of its builds included. */
export async function guestProcesses(init: number): Promise<Process[]> {
  const all = await processes();
  const inside = new Set([init]);
  for (let size = 0; size < inside.size;) {
    size = inside.size;
    for (const { pid, parent } of all) if (inside.has(parent)) inside.add(pid);
  }
  return all.filter(({ pid }) => inside.has(pid));
}

/** A process in a guest with exactly these words; waits for it. By its number on the host it can be signalled. */
export async function guestProcess(stateDir: string, guest: string, command: string): Promise<Process> {
  const init = await guestInit(stateDir, guest);
  return await waitUntil(`${command} in ${guest}`, async () =>
    (await guestProcesses(init)).find((process) => process.command === command),
  );
}

export const HELD_COMMAND = 'sleep 86397';
/** Part of a build's script: there it waits for `release`. */
export const HELD = `${HELD_COMMAND} || :`;

/** The process by which the only build in a guest waits. */
export async function heldProcess(stateDir: string, guest: string): Promise<Process> {
  return await guestProcess(stateDir, guest, HELD_COMMAND);
}

/** Lets the only build in a guest go on. */
export async function release(stateDir: string, guest: string): Promise<void> {
  process.kill((await heldProcess(stateDir, guest)).pid);
}

/** Stops all processes of a guest, and those that they start before they are stopped themselves. */
export async function freezeGuest(init: number): Promise<void> {
  const stopped = new Set<number>();
  for (let before = -1; before < stopped.size;) {
    before = stopped.size;
    for (const { pid } of await guestProcesses(init)) {
      if (stopped.has(pid)) continue;
      stopped.add(pid);
      signalIfThere(pid, 'SIGSTOP');
    }
  }
}

/** Signals a process that may have ended meanwhile. @param pid of a process; negative: a process group */
export function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Runs a script in a guest, as its root, by the guest's own shell. */
export async function inGuest(init: number, script: string): Promise<{ exitCode: number; output: string }> {
  const namespaces = ['--user', '--mount', '--pid', '--ipc', '--uts', '--net'];
  const result = await execa(
    'nsenter',
    ['--target', String(init), ...namespaces, '--', '/bin/sh', '-c', script],
    { reject: false, all: true, env: { PATH: '/usr/bin:/bin:/sbin' }, extendEnv: false },
  );
  return { exitCode: result.exitCode ?? -1, output: result.all };
}

/**
 * Remains of a supervisor's guests: processes, mounts (in any namespace), and directories. One line of text
 * each.
 */
export async function remainsOfGuests(stateDir: string): Promise<string[]> {
  const guests = join(stateDir, 'guests');
  const all = await processes();
  const running = await Promise.all(
    all.map(async ({ pid, command }) => {
      if (command.includes(guests)) return [`process ${pid}: ${command}`];
      return (await procFile(pid, 'mountinfo')).includes(guests)
        ? [`mounts of process ${pid}: ${command}`]
        : [];
    }),
  );
  const directories = await readdir(guests).catch(() => []);
  return [...running.flat(), ...directories.map((name) => `directory ${name}`)];
}

export async function expectNoRemains(stateDir: string): Promise<void> {
  let remains: string[] = [];
  await waitUntil('the end of all guests', async () => {
    remains = await remainsOfGuests(stateDir);
    return remains.length === 0;
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}; there are still: ${remains.join('\n')}`);
  });
}

/** Whether two processes share a namespace. */
export async function sameNamespace(
  kind: 'pid' | 'mnt' | 'net' | 'uts',
  a: number,
  b: number,
): Promise<boolean> {
  return (await readlink(`/proc/${a}/ns/${kind}`)) === (await readlink(`/proc/${b}/ns/${kind}`));
}

/** Empty where the process has gone meanwhile. */
async function procFile(pid: number, name: string): Promise<string> {
  return await readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '');
}
