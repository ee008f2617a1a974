import { join, relative } from 'node:path';

/** A disk of its own, mounted as the state directory, has this too. */
const LOST_AND_FOUND = 'lost+found';

/**
 * Paths of everything that Drover keeps on disk. "Files on disk" in docs/architecture.md says what each file holds, who
 * writes it and for how long.
 */
export class StateDir {
  readonly path: string;
  /** HTTP for the CLI. */
  readonly controlSocket: string;
  readonly pidFile: string;
  /** Default of `doors.socket.path`. */
  readonly socketDoor: string;
  readonly sshHostKey: string;
  readonly sshKnownHosts: string;
  /** Directory of the ssh door's process, with the socket for its sessions. Short: socket paths are. */
  readonly sshStreams: string;
  /** Directory of the nix-daemon that Drover runs where the host has none. */
  readonly hostDaemon: string;
  /** Result of the last probe of an accelerator. */
  readonly accelerator: string;
  /** Roots of namespace guests, a directory each. */
  readonly images: string;
  /** `/etc` of namespace guests, a directory for each configuration. */
  readonly etc: string;
  /** Locks of user ids, where the host has no better place for them. */
  readonly idLocks: string;
  /** One directory per guest that runs. */
  readonly guests: string;
  /** Listings of store paths, for guests that see listed paths only. */
  readonly listings: string;
  /** Consoles of guests. */
  readonly logs: string;
  /** Builds that there have been, and their logs. */
  readonly history: string;

  constructor(path: string) {
    this.path = path;
    this.controlSocket = join(path, 'control.sock');
    this.pidFile = join(path, 'drover.pid');
    this.socketDoor = join(path, 'doors/nix.sock');
    this.sshHostKey = join(path, 'ssh/host_ed25519_key');
    this.sshKnownHosts = join(path, 'ssh/known_hosts');
    this.sshStreams = join(path, 'doors/ssh');
    this.hostDaemon = join(path, 'host');
    this.accelerator = join(path, 'accelerator.json');
    this.images = join(path, 'images');
    this.etc = join(path, 'etc');
    this.idLocks = join(path, 'ids');
    this.guests = join(path, 'guests');
    this.listings = join(path, 'listings');
    this.logs = join(path, 'logs');
    this.history = join(path, 'history');
  }

  guest(id: string): GuestDir {
    return new GuestDir(join(this.guests, id));
  }

  /** Names that may be in the directory. Anything else is not Drover's. */
  get entries(): readonly string[] {
    const own = (Object.values(this) as string[]).flatMap((path) => relative(this.path, path).split('/', 1));
    return [...new Set([...own, LOST_AND_FOUND])].filter((name) => name !== '');
  }
}

/** Paths in one guest's directory. Each driver uses some of them. */
export class GuestDir {
  readonly path: string;
  /** `namespace`: mount point of the guest's root. */
  readonly root: string;
  /** `namespace`: socket of the guest's nix-daemon. Names of sockets are short: their paths are bounded. */
  readonly daemonSocket: string;
  /** `namespace`: socket of the guest's agent. */
  readonly agentSocket: string;
  /** The scratch disk: of VMs, and of namespace guests whose scratch is on disk. */
  readonly scratch: string;
  /** `vz`: directory with the files of the image contract. */
  readonly files: string;
  /** `vz`: socket of the guest's vsock. */
  readonly vsock: string;
  /** `qemu`: the files of the image contract, as a disk. */
  readonly configDisk: string;
  /** `qemu`: process id of QEMU. */
  readonly pidFile: string;
  /** `qemu`: exists until QEMU has its connection to virtiofsd. */
  readonly virtiofsd: string;
  /** `qemu`: likewise, for a directory of the user. */
  readonly virtiofsdOfShare: string;

  constructor(path: string) {
    this.path = path;
    this.root = join(path, 'root');
    this.daemonSocket = join(path, 'nix');
    this.agentSocket = join(path, 'run');
    this.scratch = join(path, 'scratch');
    this.files = join(path, 'drover');
    this.vsock = join(path, 'vsock.sock');
    this.configDisk = join(path, 'config.tar');
    this.pidFile = join(path, 'pid');
    this.virtiofsd = join(path, 'virtiofsd.sock');
    this.virtiofsdOfShare = join(path, 'share.sock');
  }
}
