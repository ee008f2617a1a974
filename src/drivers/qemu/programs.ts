import { DroverError } from '../../lib/errors.js';
import { findProgram, requireProgram } from '../../lib/programs.js';
import { qemuProgram } from './arguments.js';
import type { Architecture } from './image.js';
import { findVirtiofsd } from './virtiofsd.js';

/** Host programs that the driver starts, by absolute path. */
export interface QemuPrograms {
  readonly qemu: string;
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
  if (process.platform !== 'linux') {
    return {
      qemu,
      virtiofsd: undefined,
      setpriv: undefined,
      warning:
        "virtiofsd runs on Linux only: the host's store is not shared, and all inputs are copied into guests",
    };
  }
  return {
    qemu,
    virtiofsd: await findVirtiofsd(env),
    setpriv: await requireProgram(env, 'setpriv', 'Install util-linux.'),
    warning: undefined,
  };
}
