import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';

import { z } from 'zod';

import { manifestSchema } from '../../guest/agent.js';
import { DroverError, errorCode, errorMessage } from '../../lib/errors.js';
import { formatVersion, MINIMUM_VERSION } from '../../protocol/version.js';
import type { ImageManifest } from '../../guest/driver.js';

export type Architecture = 'x86_64' | 'aarch64';

/** An ELF file; what a boot loader takes: bzImage on x86_64, Image on aarch64. */
export type KernelFormat = 'elf' | 'bzImage' | 'Image';

/** A guest image as a driver of VMs boots it. docs/images.md has the file's format and what a guest must do. */
export interface GuestImage extends ImageManifest {
  readonly architecture: Architecture;
  /** Absolute paths. */
  readonly kernel: string;
  readonly initrd: string;
  /** Format according to the kernel's header; undefined for any other, which may be a compressed kernel. */
  readonly kernelFormat: KernelFormat | undefined;
  readonly commandLine: string;
  /** The static shell in the image that builds get as `/bin/sh`; undefined: `/bin/busybox`. */
  readonly shell: string | undefined;
  /** The guest's own system in the host's store; undefined: all of it is in the initrd. */
  readonly system?: string | undefined;
  /** Translators that the image brings. Rosetta comes from the host. */
  readonly translators?: readonly string[] | undefined;
}

const fileSchema = z.object({
  path: z.string().min(1),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
});

const schema = z.object({
  architecture: z.enum(['x86_64', 'aarch64']),
  kernel: fileSchema,
  initrd: fileSchema,
  commandLine: z.string().regex(/^[^\0\r\n]*$/),
  // It stands in the guest's nix.conf.
  shell: z
    .string()
    .regex(/^\/[\w.+/-]+$/)
    .optional(),
  system: z.string().startsWith('/').optional(),
  translators: z.array(z.string()).optional(),
});

const HINT =
  'Rebuild the image (for example with guest-config/debian/build.sh), or correct guest.image in the configuration.';
/** Longer ones are no manifests. */
const MAX_MANIFEST_BYTES = 1024 * 1024;

/**
 * Reads a manifest, and checks that the files which it names are there and are what it says.
 * @param path of the manifest; the paths in it are relative to its directory
 * @throws DroverError `IMAGE_UNUSABLE`
 */
export async function loadImage(path: string): Promise<GuestImage> {
  const json = parseJson(path, await readManifest(path));
  const [common, { kernel, initrd, shell, ...rest }] = check(path, json);
  requireNix(path, common);
  const native = `${rest.architecture}-linux`;
  if (!common.systems.includes(native)) {
    throw unusable(path, `it is an image for ${rest.architecture}, but its systems lack ${native}`);
  }
  const directory = dirname(path);
  const files = { kernel: resolve(directory, kernel.path), initrd: resolve(directory, initrd.path) };
  await Promise.all([
    checkFile(path, 'kernel', files.kernel, kernel.sha256),
    checkFile(path, 'initrd', files.initrd, initrd.sha256),
    rest.system === undefined ? undefined : checkFile(path, 'system', rest.system, undefined),
  ]);
  const { architecture: found, format: kernelFormat } = await inspectKernel(files.kernel);
  if (found !== undefined && found !== rest.architecture) {
    throw unusable(path, `it says ${rest.architecture}, but its kernel ${files.kernel} is for ${found}`);
  }
  return {
    ...common,
    ...rest,
    shell,
    // Its own system comes first, whatever the order in the file.
    systems: [native, ...common.systems.filter((system) => system !== native)],
    ...files,
    kernelFormat,
  };
}

/**
 * For hosts that do not share their store with guests.
 * @throws DroverError `IMAGE_UNUSABLE` if the image needs it
 */
export function requireNoShare(path: string, { system }: GuestImage): void {
  if (system !== undefined) {
    throw unusable(path, `its system ${system} is in the host's store, which is not shared with guests here`);
  }
}

/** @throws DroverError `IMAGE_UNUSABLE` if the image is for another architecture than this host's */
export function requireNative(path: string, { architecture }: GuestImage): void {
  const native = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;
  if (architecture !== native) throw unusable(path, `it is for ${architecture}, and this host is ${native}`);
}

async function readManifest(path: string): Promise<string> {
  try {
    const text = await readFile(path, 'utf8');
    if (text.length <= MAX_MANIFEST_BYTES) return text;
  } catch (cause) {
    throw unusable(
      path,
      errorCode(cause) === 'ENOENT' ? 'there is no such file' : 'it cannot be read',
      cause,
    );
  }
  throw unusable(path, `it is not a manifest: it has more than ${MAX_MANIFEST_BYTES} bytes`);
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unusable(path, 'it is not JSON', cause);
  }
}

function check(path: string, json: unknown): [ImageManifest, z.output<typeof schema>] {
  const [common, rest] = [manifestSchema.safeParse(json), schema.safeParse(json)];
  if (common.success && rest.success) return [common.data, rest.data];
  const problems = [common, rest]
    .flatMap(({ error }) => error?.issues ?? [])
    .map((issue) => `${issue.path.length === 0 ? 'the manifest' : issue.path.join('.')}: ${issue.message}`);
  throw unusable(path, [...new Set(problems)].join('; '));
}

/** Checks early what otherwise only the first build would find, if at all. */
function requireNix(path: string, { nixVersion, protocol, systems }: ImageManifest): void {
  const other = systems.find((system) => !/^[a-z0-9_]+-[a-z0-9_]+$/.test(system));
  if (other !== undefined) throw unusable(path, `systems: ${other} is no Nix system such as aarch64-linux`);
  if (!/^\d+\.\d+/.test(nixVersion))
    throw unusable(path, `nixVersion: ${nixVersion} is not a version such as 2.31.0`);
  const { major, minor } = protocol;
  if (major === MINIMUM_VERSION.major && minor >= MINIMUM_VERSION.minor) return;
  throw unusable(
    path,
    `its Nix ${nixVersion} speaks worker protocol ${major}.${minor}, and Drover takes ${formatVersion(MINIMUM_VERSION)} or a later 1.x (Nix 2.4 or later)`,
  );
}

async function checkFile(
  manifest: string,
  what: string,
  path: string,
  sha256: string | undefined,
): Promise<void> {
  const hash = createHash('sha256');
  let problem: string | undefined;
  try {
    await using file = await open(path);
    const found = await file.stat();
    if (what !== 'system' && !found.isFile()) problem = 'is not an ordinary file';
    else if (what !== 'system' && found.size === 0) problem = 'is empty';
    else if (sha256 !== undefined)
      await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  } catch (cause) {
    throw unusable(manifest, `its ${what} ${path} cannot be read`, cause);
  }
  if (problem !== undefined) throw unusable(manifest, `its ${what} ${path} ${problem}`);
  if (sha256 !== undefined && hash.digest('hex') !== sha256) {
    throw unusable(manifest, `its ${what} ${path} is damaged: its hash does not match the manifest`);
  }
}

interface Kernel {
  readonly architecture?: Architecture;
  readonly format?: KernelFormat;
}

/** Reads the headers of ELF files, x86 bzImages and arm64 Images; undefined for other formats. */
async function inspectKernel(path: string): Promise<Kernel> {
  const EM_X86_64 = 62;
  const EM_AARCH64 = 183;
  await using file = await open(path);
  const header = Buffer.alloc(0x206);
  await file.read(header, 0, header.length, 0);
  if (header.toString('latin1', 0, 4) === '\x7fELF') {
    const machine = header.readUInt16LE(18);
    if (machine === EM_X86_64) return { architecture: 'x86_64', format: 'elf' };
    return machine === EM_AARCH64 ? { architecture: 'aarch64', format: 'elf' } : {};
  }
  if (header.toString('latin1', 0x202, 0x206) === 'HdrS')
    return { architecture: 'x86_64', format: 'bzImage' };
  if (header.toString('latin1', 0x38, 0x3c) === 'ARMd') return { architecture: 'aarch64', format: 'Image' };
  return {};
}

function unusable(path: string, why: string, cause?: unknown): DroverError {
  return new DroverError(
    'IMAGE_UNUSABLE',
    `The guest image ${path} cannot be used: ${why}${cause === undefined ? '' : ` (${errorMessage(cause)})`}`,
    { cause, hint: HINT, context: { image: path } },
  );
}
