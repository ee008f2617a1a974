import { createHash } from 'node:crypto';
import {
  constants,
  copyFile,
  mkdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  chmod,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { DroverError } from '../../lib/errors.js';
import { run } from '../../lib/process.js';
import type { HostPrograms } from './programs.js';

const NIX_PROGRAMS = ['nix', 'nix-daemon', 'nix-store', 'build-remote'];
/** Everything of the image that is mounted over, or on, in a guest. */
const DIRECTORIES = [
  'proc',
  'dev',
  'sys/fs/cgroup',
  'run',
  'tmp',
  'build',
  'etc',
  'root',
  'nix/store',
  'nix/var',
  'usr/bin',
  'sbin',
  'bin',
];
export interface NamespaceImage {
  /** The directory that is every guest's root, read-only. */
  readonly root: string;
  /** Hash of the programs in it. */
  readonly hash: string;
}

export interface ImageSources {
  readonly programs: HostPrograms;
  /** Directory of `nix-daemon` and `nix-store`. */
  readonly nix: string;
  /** Directory of Drover's own guest scripts. */
  readonly scripts: string;
}

/**
 * Makes the root of the guests below `imagesDir`, or finds it there: busybox, Nix with the libraries it is linked
 * to, and drover-guest.
 */
export async function makeImage(imagesDir: string, sources: ImageSources): Promise<NamespaceImage> {
  const files = await filesOf(sources);
  const hash = await hashOf(files);
  const root = join(imagesDir, hash);
  await mkdir(imagesDir, { recursive: true, mode: 0o700 });
  if (await exists(root)) return { root, hash };
  const unfinished = `${root}.tmp`;
  await fill(unfinished, files, sources);
  await rename(unfinished, root);
  return { root, hash };
}

/** Paths in the image, each with the host's file that is copied there. */
type ImageFiles = ReadonlyMap<string, string>;

async function filesOf({ programs, nix, scripts }: ImageSources): Promise<ImageFiles> {
  const files = new Map([
    ['/bin/busybox', programs.busybox],
    ['/usr/bin/drover-guest', join(scripts, 'drover-guest.sh')],
  ]);
  for (const program of [await realpath(join(nix, 'nix-daemon')), await realpath(programs.sqlite3)]) {
    // A program in the store is seen by guests as it is, with everything it refers to.
    if (program.startsWith('/nix/store/')) continue;
    files.set(program, program);
    for (const library of await librariesOf(program, programs)) files.set(library, await realpath(library));
  }
  return files;
}

/** The shared libraries that the dynamic linker loads, and glibc's name service modules, which are loaded later. */
async function librariesOf(program: string, { ldd }: HostPrograms): Promise<string[]> {
  if (ldd === undefined) {
    throw new DroverError('REQUIREMENT_MISSING', 'The program ldd is not on PATH', {
      hint: 'Install libc-bin.',
    });
  }
  const { stdout, stderr } = await run(ldd, [program]);
  // NAME => PATH (0x…), but where NAME is a path, that of the linker which the program asks for, it is the one to have.
  const libraries = [...stdout.matchAll(/^\s*(\/\S+) (?:=> \S+ )?\(0x|=> (\/\S+) \(0x/gm)].flatMap(
    ([, asked, found]) => asked ?? found ?? [],
  );
  const libc = libraries.find((path) => path.endsWith('/libc.so.6'));
  if (libc === undefined || stdout.includes('not found')) {
    throw new DroverError(
      'NIX_UNUSABLE',
      `The libraries of ${program} cannot be found: ${(stdout.includes('not found') ? stdout : stderr).trim()}`,
      {
        hint: 'Reinstall Nix.',
      },
    );
  }
  for (const module of ['libnss_dns.so.2', 'libnss_files.so.2']) {
    if (await exists(join(dirname(libc), module))) libraries.push(join(dirname(libc), module));
  }
  return libraries;
}

async function hashOf(files: ImageFiles): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([DIRECTORIES, NIX_PROGRAMS]));
  for (const [path, source] of files) {
    const { size, mtimeMs } = await stat(source);
    hash.update(`\0${path}\0${source}\0${size}\0${mtimeMs}`);
  }
  return hash.digest('hex').slice(0, 16);
}

async function fill(root: string, files: ImageFiles, { programs, nix }: ImageSources): Promise<void> {
  await rm(root, { recursive: true, force: true });
  for (const directory of DIRECTORIES) await mkdir(join(root, directory), { recursive: true, mode: 0o755 });
  for (const [path, source] of files) {
    await mkdir(join(root, dirname(path)), { recursive: true, mode: 0o755 });
    await copyFile(source, join(root, path), constants.COPYFILE_FICLONE);
  }
  await chmod(join(root, 'usr/bin/drover-guest'), 0o755);
  const applets = await run(programs.busybox, ['--list']);
  for (const applet of applets.stdout.split('\n')) {
    if (applet !== '' && applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
  }
  const program = await realpath(join(nix, 'nix-daemon'));
  for (const name of NIX_PROGRAMS) {
    const link = join(root, 'usr/bin', name);
    if (!(await exists(link))) await symlink(program, link);
  }
  const sqlite3 = join(root, 'usr/bin/sqlite3');
  if (!(await exists(sqlite3))) await symlink(await realpath(programs.sqlite3), sqlite3);
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether the host's kernel can mount overlayfs; it may be a module that is loaded on first use.
 * @param filesystems where the kernel lists what it can mount
 */
export async function kernelHasOverlayfs(filesystems = '/proc/filesystems'): Promise<boolean> {
  if (/\boverlay$/m.test(await readFile(filesystems, 'utf8'))) return true;
  await run('modprobe', ['overlay']).catch(() => undefined);
  return /\boverlay$/m.test(await readFile(filesystems, 'utf8'));
}
