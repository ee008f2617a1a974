import { DroverError } from '../../lib/errors.js';
import { run } from '../../lib/process.js';
import { findProgram, requireProgram } from '../../lib/programs.js';
import type { Architecture } from '../vm/image.js';
import { qemuProgram } from './arguments.js';
import { findVirtiofsd } from './virtiofsd.js';

/** Host programs that the driver starts, by absolute path. */
export interface QemuPrograms {
  readonly qemu: string;
  /** Whether it emulates several cores at the same time without mistakes. */
  readonly parallelTcg: boolean;
  /** Whether it can be handed /dev/kvm, which not every user may open. */
  readonly inheritsKvm: boolean;
  /** Whether it gives up system calls: Linux only. */
  readonly seccomp: boolean;
  /** Whether it can run as users that have no rights at all. */
  readonly ownUser: boolean;
  /** Undefined where there is none for this kind of host: then inputs are copied into guests. */
  readonly virtiofsd: string | undefined;
  /** Undefined where children cannot be made to die with their parent. */
  readonly setpriv: string | undefined;
  /** Degraded features, a sentence each. */
  readonly warnings: readonly string[];
}

const DEBIAN_PACKAGES: Readonly<Record<Architecture, string>> = {
  x86_64: 'qemu-system-x86',
  aarch64: 'qemu-system-arm',
};

/** QEMU 7.2 lets one emulated core run code that another is patching: one boot of twenty ends in a kernel's `int3`. */
const FIRST_PARALLEL_VERSION = 8;
const FIRST_KVM_DEVICE_VERSION = 9;
/** Users that no host has: from here on, one for each guest. Nix's build users in namespace guests are below. */
const FIRST_UID = 1_910_000_000;
const UIDS = 1_000_000;

const NO_SHARE_WARNING =
  "virtiofsd runs on Linux only: the host's store is not shared, and all inputs are copied into guests";

/** @throws DroverError `REQUIREMENT_MISSING` naming what is missing, and how to get it */
export async function findQemuPrograms(
  env: NodeJS.ProcessEnv,
  architecture: Architecture,
): Promise<QemuPrograms> {
  const program = qemuProgram(architecture);
  const qemu = await findProgram(env, program);
  if (qemu === undefined) {
    throw new DroverError(
      'REQUIREMENT_MISSING',
      `The program ${program} is not on PATH, and the image in guest.image is for ${architecture}`,
      {
        hint: `Install QEMU for ${architecture} (on Debian: apt-get install ${DEBIAN_PACKAGES[architecture]}; on macOS: brew install qemu), or choose an image for another architecture.`,
      },
    );
  }
  const linux = process.platform === 'linux';
  const setpriv = linux ? await requireProgram(env, 'setpriv', 'Install util-linux.') : undefined;
  const version = await majorVersion(qemu, env);
  const root = process.getuid?.() === 0;
  const ownUser = root && setpriv !== undefined && (await runsAsOwnUser(setpriv, qemu, env));
  return {
    qemu,
    parallelTcg: version >= FIRST_PARALLEL_VERSION,
    inheritsKvm: version >= FIRST_KVM_DEVICE_VERSION,
    seccomp: linux,
    ownUser,
    virtiofsd: linux ? await findVirtiofsd(env) : undefined,
    setpriv,
    warnings: [
      ...(linux ? [] : [NO_SHARE_WARNING]),
      ...(root && !ownUser ? [`QEMU runs as root: other users may not run ${qemu}`] : []),
    ],
  };
}

/** The command under which QEMU runs: a user of the guest's own, if that is possible, with no capabilities. */
export function setprivForQemu(
  { setpriv, ownUser }: Pick<QemuPrograms, 'setpriv' | 'ownUser'>,
  number: number,
): [string, ...string[]] | undefined {
  if (setpriv === undefined || !ownUser) return setpriv === undefined ? undefined : [setpriv];
  const id = String(FIRST_UID + (number % UIDS));
  const capabilities = ['--inh-caps=-all', '--bounding-set=-all', '--no-new-privs'];
  return [setpriv, '--reuid', id, '--regid', id, '--clear-groups', ...capabilities];
}

/** It and its libraries may be where only root can go. */
async function runsAsOwnUser(setpriv: string, qemu: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  const [program, ...options] = setprivForQemu({ setpriv, ownUser: true }, 0) ?? [];
  return (
    program !== undefined && (await run(program, [...options, qemu, '--version'], { env })).exitCode === 0
  );
}

/** @throws DroverError `REQUIREMENT_MISSING` for a program that does not say which QEMU it is */
async function majorVersion(qemu: string, env: NodeJS.ProcessEnv): Promise<number> {
  const { stdout, stderr } = await run(qemu, ['--version'], { env });
  const major = /version (\d+)\./.exec(stdout)?.[1];
  if (major !== undefined) return Number(major);
  throw new DroverError(
    'REQUIREMENT_MISSING',
    `${qemu} --version says ${JSON.stringify((stdout + stderr).trim())}`,
    { hint: 'Reinstall QEMU.' },
  );
}
