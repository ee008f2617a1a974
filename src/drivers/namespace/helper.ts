import type { ChildProcess } from 'node:child_process';

import type { OwnGuestOptions } from '../../guest/driver.js';
import { startProgram } from '../../lib/process.js';

/** Input from which drover-namespace (namespace/drover-namespace.c) makes a guest. */
export interface GuestSetup {
  /** The root that all guests share. */
  readonly image: string;
  /** Their `/etc`. */
  readonly etc: string;
  /** The host's store. */
  readonly store: string;
  /** This guest's own directory, with a directory `root` to mount on. Its sockets are made there. */
  readonly dir: string;
  readonly name: string;
  readonly scratchSizeBytes: number;
  /** File with an ext4 file system for the scratch; undefined: it is in memory. */
  readonly disk: string | undefined;
  readonly network: 'host' | 'outbound' | 'none';
  /** slirp4netns, for `outbound`. */
  readonly slirp: string | undefined;
  /** True if it has /dev/kvm. */
  readonly kvm: boolean;
  /** True if it has /sys, which builds with a range of user ids mount. Nothing in it is the guest's to write. */
  readonly sys: boolean;
  /** Directories of the host that it has at the same path. */
  readonly binds: OwnGuestOptions['binds'];
  /** Its user namespace; undefined: root in the guest is root on the host. */
  readonly ids: UserIds | undefined;
  /** Group of the build users, in the guest. */
  readonly buildGid: number;
  /** Directories of cgroups that the guest's processes are in. */
  readonly cgroups: readonly string[];
}

export interface UserIds {
  /** Number of user and group ids that a guest has for itself. */
  readonly count: number;
  /** File whose locks say which ids of the host are taken. */
  readonly locks: string;
}

/** Everything that a guest's programs may need; PATH is looked up inside. */
const GUEST_ENV = { PATH: '/usr/bin:/bin:/sbin', HOME: '/root', TMPDIR: '/build' };

/**
 * Starts drover-namespace: standard input is what the guest lives by, standard error its console, and descriptor 3 says
 * "ready". In a session of its own, so that Ctrl-C at the supervisor's terminal does not reach it.
 */
export async function startHelper(
  program: string,
  setup: GuestSetup,
  env: NodeJS.ProcessEnv,
  options: { readonly probe?: boolean } = {},
): Promise<ChildProcess> {
  const { ids } = setup;
  const words = {
    image: setup.image,
    etc: setup.etc,
    store: setup.store,
    dir: setup.dir,
    name: setup.name,
    scratch: setup.scratchSizeBytes,
    ...(setup.disk === undefined ? {} : { disk: setup.disk }),
    network: setup.network,
    ...(setup.slirp === undefined ? {} : { slirp: setup.slirp }),
    gid: setup.buildGid,
    ...(setup.kvm ? { kvm: 1 } : {}),
    ...(setup.sys ? { sys: 1 } : {}),
    ...(ids === undefined ? {} : { ids: ids.count, locks: ids.locks }),
    ...(setup.cgroups.length === 0 ? {} : { cgroups: setup.cgroups.join(':') }),
    ...(options.probe === true ? { probe: 1 } : {}),
  };
  const binds = setup.binds.map(({ directory, readOnly }) => `${readOnly ? 'bind-ro' : 'bind'}=${directory}`);
  return await startProgram(
    program,
    [...Object.entries(words).map(([name, value]) => `${name}=${value}`), ...binds],
    {
      env: { ...GUEST_ENV, ...env },
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    },
  );
}
