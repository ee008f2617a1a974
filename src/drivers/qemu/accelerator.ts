import { createHash } from 'node:crypto';
import { access, constants, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';

import { z } from 'zod';

import type { Child } from '../../lib/child.js';
import type { GuestImage } from '../vm/image.js';
import { bareMachineArguments, type Accelerator } from './arguments.js';
import { Inheritance, inheritMachine, type BareMachine } from './machine.js';
import type { QemuPrograms } from './programs.js';
import { PROBE_EXIT, probeInitrd } from './probe-initrd.js';

/** A kernel gets to its first process in a tenth of this where an accelerator works, in milliseconds. */
const PROBE_TIMEOUT_MS = 6_000;
const PROBE_MEMORY_BYTES = 256 * 1024 ** 2;

export interface PickedAccelerator {
  readonly accelerator: Accelerator;
  /** Why the fastest one is not used, for people; undefined if it is, or if there was nothing to expect. */
  readonly warning: string | undefined;
}

export interface AcceleratorOptions {
  readonly programs: QemuPrograms;
  readonly image: Pick<GuestImage, 'architecture' | 'kernel'>;
  /** The configured accelerator. */
  readonly wanted: Accelerator | 'auto';
  /** Where what was found out is kept until the host boots again. */
  readonly memoryFile: string;
}

const memorySchema = z.object({ key: z.string(), problem: z.string().nullable() });

/**
 * Returns the fastest accelerator that can run a guest. The existence of its device proves nothing: inside
 * some VMs /dev/kvm opens, creates machines, and never gets a kernel to its first process. So each is tried,
 * and the outcome is remembered.
 */
export async function pickAccelerator(options: AcceleratorOptions): Promise<PickedAccelerator> {
  const { wanted, image } = options;
  const candidate = nativeAccelerator(image.architecture);
  if (wanted === 'tcg' || (wanted === 'auto' && candidate === undefined)) {
    return { accelerator: 'tcg', warning: undefined };
  }
  if (candidate === undefined || (wanted !== 'auto' && wanted !== candidate)) {
    return fallBack(wanted, `it cannot run ${image.architecture} guests on this host`);
  }
  if (candidate === 'kvm') {
    try {
      await access('/dev/kvm', constants.R_OK | constants.W_OK);
    } catch {
      return fallBack(candidate, '/dev/kvm is not there, or this user may not use it');
    }
  }
  const problem = await rememberedProbe(candidate, options);
  return problem === undefined
    ? { accelerator: candidate, warning: undefined }
    : fallBack(candidate, `${problem} (to try again, remove ${options.memoryFile})`);
}

function nativeAccelerator(architecture: GuestImage['architecture']): 'kvm' | 'hvf' | undefined {
  const native = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string];
  if (native !== architecture) return undefined;
  return { linux: 'kvm', darwin: 'hvf' }[process.platform as string] as 'kvm' | 'hvf' | undefined;
}

function fallBack(accelerator: string, why: string): PickedAccelerator {
  return {
    accelerator: 'tcg',
    warning: `guests are emulated (tcg), which is many times slower: ${accelerator} does not work here: ${why}`,
  };
}

async function rememberedProbe(
  accelerator: Accelerator,
  options: AcceleratorOptions,
): Promise<string | undefined> {
  const key = await situation(accelerator, options);
  try {
    const memory = memorySchema.parse(JSON.parse(await readFile(options.memoryFile, 'utf8')));
    if (memory.key === key) return memory.problem ?? undefined;
  } catch {
    // Nothing is remembered, or nothing that makes sense.
  }
  const problem = await probe(accelerator, options);
  await writeFile(options.memoryFile, `${JSON.stringify({ key, problem: problem ?? null })}\n`, {
    mode: 0o600,
  });
  return problem;
}

/** The outcome depends on these: another QEMU, another kernel or a reboot of the host may change it. */
async function situation(accelerator: string, { programs, image }: AcceleratorOptions): Promise<string> {
  const { qemu, ownUser } = programs;
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  const files = await Promise.all([qemu, image.kernel].map((file) => stat(file)));
  const facts = [
    accelerator,
    release(),
    boot,
    qemu,
    ownUser,
    image.kernel,
    ...files.map((f) => `${f.size} ${f.mtimeMs}`),
  ];
  return createHash('sha256').update(facts.join('\0')).digest('hex');
}

/** Boots the image's kernel with a first process that ends at once. Returns what is wrong, if anything is. */
async function probe(
  accelerator: Accelerator,
  { programs, image }: AcceleratorOptions,
): Promise<string | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'drover-probe-'));
  try {
    const initrd = join(directory, 'initrd');
    await writeFile(initrd, probeInitrd(image.architecture));
    const child = await startProbe(programs, {
      image: { ...image, initrd },
      accelerator,
      cores: 2,
      memoryBytes: PROBE_MEMORY_BYTES,
      commandLine: 'quiet panic=-1 rdinit=/init',
    });
    let said = '';
    for (const stream of [child.process.stdout, child.process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-16_384)));
    }
    const timer = setTimeout(() => void child.kill(), PROBE_TIMEOUT_MS);
    const how = await child.exited;
    clearTimeout(timer);
    if (said.includes(PROBE_EXIT)) return undefined;
    const last = said.trim().split('\n').at(-1) ?? '';
    return how === 'it was killed by SIGKILL'
      ? `a guest did not get to its first process within ${PROBE_TIMEOUT_MS / 1000} s`
      : `a guest did not get to its first process: QEMU ended: ${last === '' ? how : last}`;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function startProbe(programs: QemuPrograms, machine: BareMachine): Promise<Child> {
  using inherited = new Inheritance();
  const args = bareMachineArguments(await inheritMachine(inherited, programs, machine));
  return await inherited.start(programs, args, 0);
}
