import { access, constants } from 'node:fs/promises';
import { availableParallelism } from 'node:os';

import { DroverError, errorCode, errorMessage } from '../../lib/errors.js';
import { humanBytes } from '../../lib/human.js';
import type { GuestImage } from '../vm/image.js';
import { HELPER_ERROR_DOMAIN, helperErrorCodes, type HelperFacts } from './helper-protocol.js';
import { startHelper } from './helper.js';

const REINSTALL =
  "Install Drover's package for macOS again, or name a vz-helper in the environment as DROVER_VZ_HELPER.";
const OTHER_DRIVER = 'Set driver to qemu, whose guests run on this Mac too, more slowly.';

/**
 * Asks the helper for this Mac's capabilities.
 * @throws DroverError `REQUIREMENT_MISSING` if the helper does not exist or does not run
 */
export async function askHelper(program: string, setpriv: string | undefined): Promise<HelperFacts> {
  try {
    await access(program, constants.X_OK);
  } catch (cause) {
    throw missing(
      errorCode(cause) === 'ENOENT' ? `vz-helper is not there: ${program}` : `${program} cannot be run`,
      process.platform === 'darwin'
        ? REINSTALL
        : 'The vz driver is for macOS: choose another driver on this host.',
      cause,
    );
  }
  try {
    const helper = await startHelper({ program, setpriv });
    await helper.close();
    return helper.facts;
  } catch (cause) {
    // So ends a program that macOS does not let run.
    const killed = errorMessage(cause).includes('SIGKILL');
    throw missing(
      errorMessage(cause) + (killed ? ', as macOS does to programs without a valid signature' : ''),
      killed ? signingHint(program) : REINSTALL,
      cause,
    );
  }
}

/** Free space with what macOS would purge, which statfs does not count; undefined if the helper cannot tell. */
export async function importantFreeBytes(
  program: string,
  setpriv: string | undefined,
  directory: string,
): Promise<number | undefined> {
  const helper = await startHelper({ program, setpriv }).catch(() => undefined);
  if (helper === undefined) return undefined;
  try {
    return await helper.freeBytes(directory).catch(() => undefined);
  } finally {
    await helper.close();
  }
}

export interface WantedGuests {
  /** 0: as many as there are. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly nestedVirtualization: boolean;
}

/**
 * Checks that this Mac can run such guests.
 * @param file that the image was read from
 * @returns the cores of a guest
 * @throws DroverError `REQUIREMENT_MISSING`, `IMAGE_UNUSABLE`, `CONFIG_INVALID`
 */
export function requireGuests(
  facts: HelperFacts,
  file: string,
  image: Pick<GuestImage, 'architecture' | 'kernel' | 'kernelFormat'>,
  { cores, memoryBytes, nestedVirtualization }: WantedGuests,
): number {
  if (!facts.supported) {
    throw missing('This Mac cannot run virtual machines (it may be one itself)', OTHER_DRIVER);
  }
  requireImage(facts, file, image);
  const { cpus, memoryBytes: memory } = facts;
  if (nestedVirtualization && !facts.nested) {
    throw invalid(
      'guest.nestedVirtualization is true, which takes macOS 15 and an M3 or a later chip',
      'Set guest.nestedVirtualization to false.',
    );
  }
  if (cores > cpus.max) {
    throw invalid(
      `guest.cores is ${cores}, and a guest on this Mac can have ${cpus.max}`,
      'Lower guest.cores; 0 is as many as there are.',
    );
  }
  if (memoryBytes < memory.min || memoryBytes > memory.max) {
    throw invalid(
      `guest.memory is ${humanBytes(memoryBytes)}, and a guest on this Mac can have from ${humanBytes(memory.min)} to ${humanBytes(memory.max)}`,
      'Change guest.memory.',
    );
  }
  return cores === 0 ? Math.min(availableParallelism(), cpus.max) : Math.max(cores, cpus.min);
}

function requireImage(
  facts: HelperFacts,
  file: string,
  { architecture, kernel, kernelFormat }: Pick<GuestImage, 'architecture' | 'kernel' | 'kernelFormat'>,
): void {
  const native = facts.architecture === 'arm64' ? 'aarch64' : 'x86_64';
  if (architecture !== native) {
    throw unusable(file, `it is for ${architecture}, and guests on this Mac are ${native}`);
  }
  if (architecture === 'aarch64' && kernelFormat !== 'Image') {
    throw unusable(
      file,
      `its kernel ${kernel} is no uncompressed arm64 Image, the only kind that macOS boots`,
    );
  }
}

/** Adds what to do, if there is something. The helper may have been replaced since the start. */
export function explainHelper(error: unknown, program: string): unknown {
  if (!(error instanceof DroverError) || error.code !== 'VZ_HELPER_REFUSED') return error;
  const { domain, code } = error.context;
  const hint = /entitlement/i.test(error.message)
    ? signingHint(program)
    : domain === HELPER_ERROR_DOMAIN && code === helperErrorCodes.rosettaMissing
      ? 'Install Rosetta (softwareupdate --install-rosetta), or set guest.rosetta.enable to false.'
      : domain === 'VZErrorDomain'
        ? frameworkHint(Number(code))
        : undefined;
  return hint === undefined
    ? error
    : new DroverError(error.code, error.message, { cause: error, hint, context: error.context });
}

const REPORT = 'This is a fault of Drover: please report it, with the log of the guest.';
const LOGS =
  'Look into the log of macOS: log show --last 5m --predicate \'process CONTAINS "Virtualization"\'';

/** By the codes of Apple's VZError.h. */
const FRAMEWORK_HINTS: Readonly<Record<number, string>> = {
  1: `macOS gives no reason. ${LOGS}`,
  2: 'macOS rejects the guest: compare guest.cores and guest.memory with this Mac (docs/mac.md), and try guest.nestedVirtualization: false.',
  3: REPORT,
  4: REPORT,
  5: 'The scratch disk or a disk of the image is damaged or on a volume that macOS cannot use: keep stateDir on a local APFS volume.',
  6: 'Too many virtual machines run on this Mac: stop others, or lower pool.maxGuests.',
  7: 'The network of virtual machines did not start: check firewalls and VPNs, restart the Mac, or set guest.network to none (docs/mac.md#network).',
  8: 'The volume of stateDir is full: free space there, or lower guest.scratchSize.',
  9: 'macOS ended the operation. Try again.',
  10: 'This Mac or its macOS cannot do this: update macOS, or set guest.nestedVirtualization and guest.rosetta.enable to false.',
  11: REPORT,
  12: REPORT,
};

function frameworkHint(code: number): string {
  // Codes from 10001 on are about installing macOS, network block devices and USB. Drover asks for none of these.
  return FRAMEWORK_HINTS[code] ?? REPORT;
}

/** A warning about a helper that seems unsigned. The framework decides: it may know better. */
export function entitlementWarning(
  { entitled }: Pick<HelperFacts, 'entitled'>,
  program: string,
): string | undefined {
  return entitled
    ? undefined
    : `${program} seems not to have the entitlement com.apple.security.virtualization; if guests fail to boot: ${signingHint(program)}`;
}

function signingHint(program: string): string {
  return (
    `${REINSTALL} One that you have built yourself is signed with: ` +
    `codesign --force --sign - --entitlements vz-helper/entitlements.plist ${program}`
  );
}

function missing(message: string, hint: string, cause?: unknown): DroverError {
  return new DroverError('REQUIREMENT_MISSING', message, { cause, hint });
}

function invalid(message: string, hint: string): DroverError {
  return new DroverError('CONFIG_INVALID', message, { hint });
}

function unusable(file: string, why: string): DroverError {
  return new DroverError('IMAGE_UNUSABLE', `The guest image ${file} cannot be used: ${why}`, {
    hint: 'Choose another image as guest.image (docs/images.md).',
    context: { image: file },
  });
}
