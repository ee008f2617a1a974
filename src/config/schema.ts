import { isAbsolute } from 'node:path';

import type { z } from 'zod';

import { StateDir } from '../lib/state-dir.js';
import {
  absolutePath,
  choice,
  duration,
  flag,
  imagePath,
  list,
  listen,
  plainPath,
  section,
  size,
  socketPath,
  socketPathProblem,
  text,
  wholeNumber,
} from './fields.js';
import { isLoopback, type ListenAddress } from './listen.js';
import { nixConf } from './nix-conf.js';
import { sshDoor, type SshDoorConfig } from './ssh-clients.js';

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';

/** Number of guests, and lifetime of each. */
export interface PoolConfig {
  /** Guests at the same time, booting and draining ones included: 1 to 1024. */
  readonly maxGuests: number;
  /** Guests kept booted while nothing builds: 0 to `maxGuests`. */
  readonly warmGuests: number;
  /** Leases that one guest carries at the same time: 1 to 1024. */
  readonly jobsPerGuest: number;
  /** Clients that a guest serves in its life: those of one trust domain, one lease, or all. */
  readonly isolation: 'client' | 'build' | 'shared';
  /** A guest beyond `warmGuests` is drained after this time without a lease: 0 to 24 d. */
  readonly idleTimeoutMs: number;
  /** A guest that is not ready after this time has failed: 1 s to 24 h. */
  readonly bootTimeoutMs: number;
  /** Time for running builds to finish once the supervisor stops: 0 to 24 h. */
  readonly drainTimeoutMs: number;
  /** A guest is retired after this many leases: 1 to a million. */
  readonly maxBuilds: number;
  /** A guest is retired at this age: 1 s to 24 d. */
  readonly maxAgeMs: number;
}

/** Size and settings of one guest. */
export interface GuestConfig {
  /** Cores of one guest: 0 (all of the host's) to 1024. */
  readonly cores: number;
  /** Memory of one guest, in whole MiB: 256 MiB to 1 PiB; undefined: 2 GiB for a VM, else what fits the host. */
  readonly memoryBytes: number | undefined;
  /** Size of the guest's upper layer: 1 MiB to 1 PiB; undefined: 20 GiB for a VM, else what fits the host. */
  readonly scratchSizeBytes: number | undefined;
  /** Place of a namespace guest's scratch; `auto`: on disk where memory is short. A VM's is always on disk. */
  readonly scratch: 'auto' | 'memory' | 'disk';
  /** View of the host's store that VMs get: listed paths only and exactly as they are, or the share as it is. */
  readonly store: 'exact' | 'raw';
  /** `outbound`: the world, but not the host's loopback. `host`: the host's network. `none`: loopback only. */
  readonly network: 'host' | 'outbound' | 'none';
  /** Namespace guests: their root is a user that the host has not; `auto`: where the host can do it. */
  readonly userNamespace: 'required' | 'auto' | 'off';
  /** Extra settings of the guest's nix.conf; each value is ready to stand after `name = `. */
  readonly nixConf: Readonly<Record<string, string>>;
  /** Absolute path of a directory with `nix-daemon` and `nix-store`; undefined: the ones on PATH. */
  readonly nix: string | undefined;
  /** Absolute path of the manifest of a VM's image; undefined: no VMs. */
  readonly image: string | undefined;
  /** How VMs run; `auto`: the fastest way on this host. */
  readonly accelerator: 'auto' | 'kvm' | 'hvf' | 'tcg';
  /** Guests on a Mac: use Rosetta if it is installed; keep its translations. */
  readonly rosetta: { readonly enable: boolean; readonly cache: boolean };
  /** Guests on a Mac: translators of x86_64 programs, tried in this order. Never empty. */
  readonly x86_64: readonly ('rosetta' | 'qemu-user')[];
  /** Serve the ssh door though the guests' Nix has known security holes. */
  readonly acceptVulnerableNix: boolean;
  /** For how long a guest keeps a build that failed, in milliseconds: 0, not at all, to 1 day. */
  readonly keepFailedMs: number;
  /** Guests on a Mac: can run virtual machines themselves. */
  readonly nestedVirtualization: boolean;
}

/** How Nix reaches Drover. */
export interface DoorsConfig {
  readonly socket: {
    /** Absolute, and short enough for a Unix socket on every system. */
    readonly path: string;
    /** Time for which clients wait for a supervisor that is restarting: 0 to 1 h. */
    readonly restartGraceMs: number;
  };
  readonly ssh: SshDoorConfig;
}

/** Users who may look, besides the user who runs Drover. */
export interface ControlConfig {
  /** Name of a group that may look and change nothing; null: none. */
  readonly group: string | null;
  /** Absolute path of the socket for that group. */
  readonly path: string;
}

/** Retention of ended builds. */
export interface HistoryConfig {
  /** Builds that were asked for longer ago are forgotten: 1 min to 10 years. */
  readonly keepMs: number;
  /** 1 to 100,000. */
  readonly maxBuilds: number;
  /** Bytes of records and logs: 1 MiB to 1 TiB. */
  readonly maxBytes: number;
  /** Whose logs are kept. */
  readonly logs: 'all' | 'failed' | 'none';
}

export interface MetricsConfig {
  readonly listen: ListenAddress;
  /** Whether guests, builds and logs are shown there, too, on a page for people. */
  readonly page: boolean;
}

export interface LogConfig {
  readonly level: LogLevel;
  /** Absolute path of the file that is appended to; undefined: standard error. */
  readonly file: string | undefined;
}

/** The whole configuration, checked and with every default filled in. */
export interface Config {
  /** Absolute path of the directory that holds everything that Drover writes. */
  readonly stateDir: string;
  readonly driver: 'auto' | 'vz' | 'namespace' | 'qemu';
  /** Nix systems to offer; undefined: what the driver's guests can build. Never empty. */
  readonly systems: readonly string[] | undefined;
  /** Nix system features to offer. */
  readonly features: readonly string[];
  readonly pool: PoolConfig;
  readonly guest: GuestConfig;
  readonly doors: DoorsConfig;
  /** null: no metrics endpoint. */
  readonly metrics: MetricsConfig | null;
  /** Absolute path of the audit log; null: none is kept. */
  readonly audit: { readonly file: string | null };
  /** Absolute path of the secret key that signs what guests build; null: nothing is signed. */
  readonly signing: { readonly secretKeyFile: string | null };
  readonly control: ControlConfig;
  /** null: builds are numbered, and nothing is kept. */
  readonly history: HistoryConfig | null;
  readonly log: LogConfig;
}

const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Node's timers fire at once if a delay exceeds 2^31 ms, a little less than 25 days. */
const LONGEST_MS = 24 * DAY_MS;
const MIB_BYTES = 1024 ** 2;
const TIB_BYTES = 1024 ** 4;
const PIB_BYTES = 1024 ** 5;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

const pool = section({
  maxGuests: wholeNumber({ min: 1, max: 1024 }).prefault(2),
  warmGuests: wholeNumber({ min: 0, max: 1024 }).prefault(0),
  jobsPerGuest: wholeNumber({ min: 1, max: 1024 }).prefault(4),
  isolation: choice(['client', 'build', 'shared']).prefault('client'),
  idleTimeout: duration({ min: 0, max: LONGEST_MS }).prefault('5m'),
  bootTimeout: duration({ min: SECOND_MS, max: DAY_MS }).prefault('60s'),
  drainTimeout: duration({ min: 0, max: DAY_MS }).prefault('60s'),
  maxBuilds: wholeNumber({ min: 1, max: 1_000_000 }).prefault(200),
  maxAge: duration({ min: SECOND_MS, max: LONGEST_MS }).prefault('24h'),
}).refine(({ warmGuests, maxGuests }) => warmGuests <= maxGuests, {
  path: ['warmGuests'],
  // Also if other keys of the section are wrong: report every error at once.
  when: ({ value }) =>
    isObject(value) &&
    Number.isInteger(value['warmGuests']) &&
    Number.isInteger(value['maxGuests']) &&
    Number(value['maxGuests']) >= 1,
  error: ({ input }) => {
    const { warmGuests, maxGuests } = input as { warmGuests: number; maxGuests: number };
    return `expected at most pool.maxGuests (${maxGuests}), got ${warmGuests}`;
  },
});

const guest = section({
  cores: wholeNumber({ min: 0, max: 1024 }).prefault(0),
  memory: size({ min: 256 * MIB_BYTES, max: PIB_BYTES })
    .transform((bytes) => Math.ceil(bytes / MIB_BYTES) * MIB_BYTES)
    .optional(),
  scratchSize: size({ min: MIB_BYTES, max: PIB_BYTES }).optional(),
  scratch: choice(['auto', 'memory', 'disk']).prefault('auto'),
  store: choice(['exact', 'raw']).prefault('exact'),
  network: choice(['outbound', 'host', 'none']).prefault('outbound'),
  userNamespace: choice(['required', 'auto', 'off']).prefault('auto'),
  nixConf: nixConf.prefault({}),
  nix: absolutePath.optional(),
  image: imagePath.optional(),
  accelerator: choice(['auto', 'kvm', 'hvf', 'tcg']).prefault('auto'),
  rosetta: section({ enable: flag().prefault(true), cache: flag().prefault(false) }).prefault({}),
  x86_64: list(choice(['rosetta', 'qemu-user']), 'translators', 1).prefault(['rosetta', 'qemu-user']),
  acceptVulnerableNix: flag().prefault(false),
  keepFailed: duration({ min: 0, max: DAY_MS }).prefault('0s'),
  nestedVirtualization: flag().prefault(false),
});

const doors = section({
  socket: section({
    path: socketPath.optional(),
    restartGrace: duration({ min: 0, max: HOUR_MS }).prefault('20s'),
  }).prefault({}),
  ssh: sshDoor.prefault({}),
});

const control = section({
  group: text(/^[A-Za-z_][\w.-]{0,63}$/, 'the name of a group')
    .nullable()
    .prefault(null),
  path: socketPath.prefault('/var/run/drover-control/look.sock'),
});

const history = section({
  keep: duration({ min: 60 * SECOND_MS, max: 3650 * DAY_MS }).prefault('30d'),
  maxBuilds: wholeNumber({ min: 1, max: 100_000 }).prefault(20_000),
  maxBytes: size({ min: MIB_BYTES, max: TIB_BYTES }).prefault('2GiB'),
  logs: choice(['all', 'failed', 'none']).prefault('all'),
});

/** Everything that a file may contain, before its sections are combined. */
const rawSchema = (defaultStateDir: string) =>
  section({
    stateDir: plainPath.prefault(defaultStateDir),
    driver: choice(['auto', 'vz', 'namespace', 'qemu']).prefault('auto'),
    systems: list(
      text(/^[a-z0-9_]+-[a-z0-9_]+$/, 'a Nix system such as x86_64-linux'),
      'Nix systems',
      1,
    ).optional(),
    features: list(text(/^(?!-$)[^\s,;#]+$/, 'the name of a system feature'), 'system features').prefault([
      'benchmark',
      'big-parallel',
    ]),
    pool: pool.prefault({}),
    guest: guest.prefault({}),
    doors: doors.prefault({}),
    metrics: section({ listen: listen.prefault('127.0.0.1:9619'), page: flag().optional() })
      .transform(({ listen: address, page }) => ({
        listen: address,
        page: page ?? isLoopback(address.host),
      }))
      .nullable()
      .prefault({}),
    audit: section({ file: absolutePath.nullable().prefault(null) }).prefault({}),
    signing: section({ secretKeyFile: absolutePath.nullable().prefault(null) }).prefault({}),
    control: control.prefault({}),
    history: history.nullable().prefault({}),
    log: section({
      level: choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).prefault('info'),
      file: absolutePath.optional(),
    }).prefault({}),
  });

/** The content of a configuration file → `Config`. `defaultStateDir` stands in for a missing `stateDir`. */
export function configSchema(defaultStateDir: string): z.ZodType<Config> {
  return rawSchema(defaultStateDir)
    .refine(({ stateDir }) => derivedSocketProblem(stateDir) === undefined, {
      path: ['stateDir'],
      when: ({ value }) => isObject(value) && isAbsolute(String(value['stateDir'])) && !hasSocketPath(value),
      error: ({ input }) => derivedSocketProblem((input as { stateDir: string }).stateDir) ?? '',
    })
    .transform(resolve);
}

function derivedSocketProblem(stateDir: string): string | undefined {
  return socketPathProblem(new StateDir(stateDir).socketDoor, 'choose a shorter stateDir');
}

function hasSocketPath(value: Record<string, unknown>): boolean {
  const socket = isObject(value['doors']) ? value['doors']['socket'] : undefined;
  return isObject(socket) && socket['path'] !== undefined;
}

function resolve(raw: z.output<ReturnType<typeof rawSchema>>): Config {
  const { idleTimeout, bootTimeout, drainTimeout, maxAge, ...counts } = raw.pool;
  const { scratchSize, memory, nix, image, keepFailed, nixConf: given, ...guestRest } = raw.guest;
  const nixConf = keepFailed > 0 ? { ...given, 'keep-failed': 'true' } : given;
  return {
    ...raw,
    systems: raw.systems,
    pool: {
      ...counts,
      idleTimeoutMs: idleTimeout,
      bootTimeoutMs: bootTimeout,
      drainTimeoutMs: drainTimeout,
      maxAgeMs: maxAge,
    },
    guest: {
      ...guestRest,
      nixConf,
      keepFailedMs: keepFailed,
      memoryBytes: memory,
      scratchSizeBytes: scratchSize,
      nix,
      image,
    },
    doors: {
      socket: {
        path: raw.doors.socket.path ?? new StateDir(raw.stateDir).socketDoor,
        restartGraceMs: raw.doors.socket.restartGrace,
      },
      ssh: raw.doors.ssh,
    },
    history: raw.history === null ? null : historyOf(raw.history),
    log: { level: raw.log.level, file: raw.log.file },
  };
}

function historyOf({ keep, ...rest }: z.output<typeof history>): HistoryConfig {
  return { keepMs: keep, ...rest };
}
