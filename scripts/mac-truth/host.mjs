// The host's view of its virtual machines, on macOS and, in a rehearsal, on Linux.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const isMac = process.platform === 'darwin';

/** Standard output of a program; empty if it fails, as pgrep does that finds nothing. */
function output(program, ...words) {
  try {
    return execFileSync(program, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}

/** Processes that are virtual machines. In a rehearsal: the helper's children. */
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

/** Descriptors that these processes have open, all together. */
export function descriptors(pids) {
  if (isMac) return output('lsof', '-n', '-P', '-p', pids.join(',')).split('\n').length;
  return pids.reduce((sum, pid) => sum + output('ls', `/proc/${pid}/fd`).split('\n').length, 0);
}

export function isAlive(pid) {
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch {
    return false;
  }
}

/** Puts the host to sleep for a moment. */
export function sleepHost(helperPid) {
  if (isMac) {
    output('sudo', '-n', 'pmset', 'schedule', 'wake', wakeTime());
    output('pmset', 'sleepnow');
    return;
  }
  process.kill(helperPid, 'SIGUSR1');
  process.kill(helperPid, 'SIGUSR2');
}

function wakeTime() {
  const at = new Date(Date.now() + 60_000);
  const two = (value) => String(value).padStart(2, '0');
  const day = `${two(at.getMonth() + 1)}/${two(at.getDate())}/${at.getFullYear()}`;
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
