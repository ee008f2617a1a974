import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Files that the kernel watches for a process, each as `device:inode`, with the kernel's numbers of devices. */
export async function watchedBy(pid: number): Promise<string[]> {
  const watched = [];
  for (const fd of await readdir(`/proc/${pid}/fdinfo`)) {
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8').catch(() => '');
    for (const [, inode = '', device = ''] of info.matchAll(/^inotify wd:\S+ ino:(\S+) sdev:(\S+)/gm))
      watched.push(`${parseInt(device, 16)}:${parseInt(inode, 16)}`);
  }
  return watched;
}

/** A directory in those words. @param pid of a process, as which it is looked at */
export async function asWatched(pid: number, path: string): Promise<string> {
  const { dev, ino } = await stat(join(`/proc/${pid}/root`, path));
  // The bits of a device number are elsewhere for programs.
  const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
  return `${major * 2 ** 20 + minor}:${ino}`;
}
