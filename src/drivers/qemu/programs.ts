import { DroverError } from '../../lib/errors.js';
import { run } from '../../lib/process.js';
import { findProgram, requireProgram } from '../../lib/programs.js';
import type { Architecture } from '../image.js';
import { qemuProgram } from './arguments.js';
import { findVirtiofsd } from './virtiofsd.js';

/** Host programs that the driver starts, by absolute path. */
export interface QemuPrograms {
  readonly qemu: string;
  /** Whether it emulates several cores at the same time without mistakes. */
  readonly parallelTcg: boolean;
  /** Undefined where there is none for this kind of host: then inputs are copied into guests. */
  readonly virtiofsd: string | undefined;
  /** Undefined where children cannot be made to die with their parent. */
  readonly setpriv: string | undefined;
  /** What does not work as well as it could. */
  readonly warning: string | undefined;
}

const DEBIAN_PACKAGES: Readonly<Record<Architecture, string>> = {
  x86_64: 'qemu-system-x86',
  aarch64: 'qemu-system-arm',
};

const FIRST_PARALLEL_VERSION = 8;

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
  const parallelTcg = await emulatesInParallel(qemu, env);
  if (process.platform !== 'linux') {
    return {
      qemu,
      parallelTcg,
      virtiofsd: undefined,
      setpriv: undefined,
      warning:
        "virtiofsd runs on Linux only: the host's store is not shared, and all inputs are copied into guests",
    };
  }
  return {
    qemu,
    parallelTcg,
    virtiofsd: await findVirtiofsd(env),
    setpriv: await requireProgram(env, 'setpriv', 'Install util-linux.'),
    warning: undefined,
  };
}

/**
 * QEMU 7.2 lets one emulated core run code that another is patching: one boot of twenty ends in a kernel's `int3`.
 * @throws DroverError `REQUIREMENT_MISSING` for a program that does not say which QEMU it is
 */
async function emulatesInParallel(qemu: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  const { stdout, stderr } = await run(qemu, ['--version'], { env });
  const major = /version (\d+)\./.exec(stdout)?.[1];
  if (major !== undefined) return Number(major) >= FIRST_PARALLEL_VERSION;
  throw new DroverError(
    'REQUIREMENT_MISSING',
    `${qemu} --version says ${JSON.stringify((stdout + stderr).trim())}`,
    {
      hint: 'Reinstall QEMU.',
    },
  );
}
