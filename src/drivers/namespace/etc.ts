import { watch, type FSWatcher } from 'node:fs';
import { copyFile, mkdir, realpath, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { errorCode } from '../../lib/errors.js';
import { Mutex } from '../../lib/mutex.js';

const BUILD_USERS = 32;

/** Content, or path on the host, of files by their paths below the directory. */
export type EtcFiles = Readonly<Record<string, string>>;

/** Where Nix and its builds in a guest find certificate authorities. */
export const CA_FILE = 'ssl/certs/ca-certificates.crt';

/** Files of the host's `/etc` that glibc and fixed-output builds read in guests. */
export const HOST_FILES: EtcFiles = Object.fromEntries(
  ['resolv.conf', 'hosts', 'nsswitch.conf', 'services', 'protocols', CA_FILE].map((name) => [
    name,
    join('/etc', name),
  ]),
);

/** `passwd` and `group` of guests, whose build users are in the group `buildGid` and have the ids after it. */
export function accounts(buildGid: number): EtcFiles {
  const users = Array.from({ length: BUILD_USERS }, (_, index) => ({
    name: `nixbld${index + 1}`,
    uid: buildGid + 1 + index,
  }));
  const account = (name: string, uid: number, gid: number): string =>
    `${name}:x:${uid}:${gid}:${name}:/var/empty:/bin/false\n`;
  return {
    passwd: [
      'root:x:0:0:root:/root:/bin/sh\n',
      ...users.map(({ name, uid }) => account(name, uid, buildGid)),
      account('nobody', 65_534, 65_534),
    ].join(''),
    group: `root:x:0:\ntty:x:5:\nnixbld:x:${buildGid}:${users.map(({ name }) => name).join(',')}\nnogroup:x:65534:\n`,
  };
}

/** `/etc` of guests: one directory for all of them, which follows files of the host while there are guests. */
export class GuestEtc {
  readonly path: string;
  readonly #sources: EtcFiles;
  readonly #seen = new Map<string, string>();
  readonly #mutex = new Mutex();
  readonly #watchers = new Map<string, FSWatcher>();
  #guests = 0;

  private constructor(path: string, sources: EtcFiles) {
    this.path = path;
    this.#sources = sources;
  }

  /**
   * @param files their content
   * @param sources files of the host to copy and follow
   */
  static async make(path: string, files: EtcFiles, sources: EtcFiles): Promise<GuestEtc> {
    const etc = new GuestEtc(path, sources);
    for (const [name, text] of Object.entries(files)) {
      await etc.#replace(name, async (to) => {
        await writeFile(to, text);
      });
    }
    await etc.refresh();
    return etc;
  }

  /** Copies the files that have changed on the host. */
  async refresh(): Promise<void> {
    await this.#mutex.run(async () => {
      for (const [name, source] of Object.entries(this.#sources)) await this.#follow(name, source);
    });
  }

  /** A guest boots. Until it ends, changes are copied as they happen. */
  async addGuest(): Promise<void> {
    this.#guests++;
    await this.#watch();
    await this.refresh();
  }

  /** A guest has ended. */
  removeGuest(): void {
    if (--this.#guests > 0) return;
    for (const path of this.#watchers.keys()) this.#unwatch(path);
  }

  async #follow(name: string, source: string): Promise<void> {
    try {
      const { ino, size, mtimeMs, ctimeMs } = await stat(source);
      const version = [ino, size, mtimeMs, ctimeMs].join();
      if (this.#seen.get(name) === version) return;
      await this.#replace(name, async (to) => {
        await copyFile(source, to);
      });
      this.#seen.set(name, version);
    } catch (error) {
      // Guests do without it, or keep the last version that could be read.
      if (errorCode(error) === 'ENOSPC') throw error;
    }
  }

  async #replace(name: string, write: (to: string) => Promise<void>): Promise<void> {
    const path = join(this.path, name);
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await write(`${path}.new`);
    await rename(`${path}.new`, path);
  }

  /**
   * Watches the directories of the files, since files are replaced, and the files, which a container's host
   * may write in place.
   */
  async #watch(): Promise<void> {
    for (const source of Object.values(this.#sources)) {
      const file = await realpath(source).catch(() => undefined);
      for (const path of new Set([dirname(source), ...(file === undefined ? [] : [file, dirname(file)])])) {
        if (this.#guests > 0 && !this.#watchers.has(path)) this.#watchOne(path, path === file);
      }
    }
  }

  #watchOne(path: string, isFile: boolean): void {
    try {
      const watcher = watch(path, { persistent: false }, () => {
        // It may be another file from now on.
        if (isFile) this.#unwatch(path);
        // Watched before it is read: the next change may come in between.
        void this.#watch()
          .then(() => this.refresh())
          .catch(() => undefined);
      });
      watcher.on('error', () => {
        this.#unwatch(path);
      });
      this.#watchers.set(path, watcher);
    } catch {
      // Where no more can be watched, guests that boot later see the change.
    }
  }

  #unwatch(path: string): void {
    this.#watchers.get(path)?.close();
    this.#watchers.delete(path);
  }
}
