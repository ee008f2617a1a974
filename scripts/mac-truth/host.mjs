// The host's view of its virtual machines, on macOS and, in a rehearsal, on Linux.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const isMac = process.platform === 'darwin';

/** Standard output of a program; empty if it fails, as pgrep does if it finds nothing. */
function output(program, ...words) {
  try {
    return execFileSync(program, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}

/** Processes that are virtual machines, anyone's. In a rehearsal: the helper's children. */
export function machines(helperPid) {
  const text = isMac ? output('pgrep', '-f', 'com.apple.Virtualization.VirtualMachine') : children(helperPid);
  return text.split(/\s+/).filter((word) => word !== '');
}

function children(pid) {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  } catch {
    return '';
  }
}

/** Descriptors that these processes have open, all together. @throws Error if the host does not tell */
export function descriptors(pids) {
  const text = isMac
    ? output('lsof', '-n', '-P', '-p', pids.join(','))
    : output('ls', ...pids.map((pid) => `/proc/${pid}/fd`));
  if (text === '') throw new Error(`the descriptors of ${pids.join(', ')} cannot be counted`);
  return text.split('\n').length;
}

export function isAlive(pid) {
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM'; // another user's
  }
}

/** Puts the host to sleep for a minute. @throws Error if it would not wake by itself */
export function sleepHost(helperPid) {
  if (isMac) {
    execFileSync('sudo', ['-n', 'pmset', 'schedule', 'wake', wakeTime()], { stdio: 'ignore' });
    output('pmset', 'sleepnow');
    return;
  }
  process.kill(helperPid, 'SIGUSR1');
  process.kill(helperPid, 'SIGUSR2');
}

function wakeTime() {
  const at = new Date(Date.now() + 60_000);
  const two = (value) => String(value).padStart(2, '0');
  const day = `${two(at.getMonth() + 1)}/${two(at.getDate())}/${two(at.getFullYear() % 100)}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** The directory that is shared: a path with a file whose case matters, one with `files` files, and a lock file. */
export function makeStore(directory, files) {
  const path = (letter, name) => join(directory, `${letter.repeat(32)}-${name}`);
  mkdirSync(path('a', 'truth'), { recursive: true });
  writeFileSync(join(path('a', 'truth'), 'VERSION'), '1');
  const perDirectory = 1000;
  for (let from = 0; from < files; from += perDirectory) {
    const part = join(path('b', 'many'), String(from));
    mkdirSync(part, { recursive: true });
    for (let i = from; i < Math.min(files, from + perDirectory); i += 1)
      writeFileSync(join(part, String(i)), '.');
  }
  writeFileSync(path('c', 'out.lock'), '');
  chmodSync(path('c', 'out.lock'), 0o600);
  return readdirSync(directory);
}
