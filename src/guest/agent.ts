import { z } from 'zod';

import type { ExecResult, GuestMemory, ImageManifest, RunningGuest } from './driver.js';
import { DroverError } from '../lib/errors.js';

/** Exit status of `register` when paths are not there. */
const EXIT_MISSING = 3;

const protocolSchema = z.object({
  major: z.number().int(),
  minor: z.number().int(),
  features: z.array(z.string()),
});

/** The manifest of an image. Unknown keys are dropped. */
export const manifestSchema: z.ZodType<ImageManifest> = z.object({
  generation: z.string().min(1),
  nixVersion: z.string().min(1),
  protocol: protocolSchema,
  systems: z.array(z.string().min(1)).min(1),
});

/** A guest's description of itself: the manifest, and where the guest deviates from it. */
export interface GuestHello extends ImageManifest {
  /** Systems of the manifest whose programs it cannot run after all. */
  readonly brokenSystems: readonly string[];
  /** Runner of its x86_64 programs; undefined: none, or the guest does not say. */
  readonly translator?: 'rosetta' | 'qemu-user' | undefined;
  /** Whether its store shows listed paths only, exactly as they are listed. */
  readonly exactStore: boolean;
}

const ownSchema = z.object({
  brokenSystems: z.array(z.string()).default([]),
  exactStore: z.boolean().default(false),
  translator: z.enum(['rosetta', 'qemu-user']).optional(),
});
const helloSchema: z.ZodType<GuestHello> = z
  .unknown()
  .transform((said) => ({ ...manifestSchema.parse(said), ...ownSchema.parse(said) }));

const statsSchema = z.object({
  scratchTotalBytes: z.number(),
  scratchUsedBytes: z.number(),
  scratchFreeBytes: z.number(),
  /** Memory of the kernel that the guest runs on; images of before do not say. */
  memoryTotalBytes: z.number().optional(),
  memoryUsedBytes: z.number().optional(),
  uptimeSeconds: z.number(),
  /** Whether the guest has a default route. Images of before do not say. */
  routed: z.boolean().default(true),
  /** Times that the share lacked a file for a moment that its listing has. */
  shareRetries: z.number().nonnegative().default(0),
});

/** How a guest is; its scratch first. One scratch holds the upper layer, the database and the build directories. */
export type GuestStats = z.infer<typeof statsSchema>;

const usageSchema = z.object({
  /** `cgroup`: the build's own control group. `proc`: sums of its processes. */
  source: z.enum(['cgroup', 'proc']),
  cpuSeconds: z.number().nonnegative(),
  memoryBytes: z.number().nonnegative(),
  readBytes: z.number().nonnegative(),
  writtenBytes: z.number().nonnegative(),
});

/** Resources that a build has used so far, from one sample. */
export type UsageSample = z.infer<typeof usageSchema>;

/** A `register` that runs, and waits for its input. */
interface PreparedRegister {
  readonly begin: (registration: string) => void;
  readonly result: Promise<ExecResult>;
}

/** The verbs of drover-guest, typed. Every failure is a DroverError `GUEST_AGENT_FAILED` with what the guest said. */
export class GuestAgent {
  readonly #guest: Pick<RunningGuest, 'exec' | 'memory'>;
  #prepared: PreparedRegister | undefined;

  constructor(guest: Pick<RunningGuest, 'exec' | 'memory'>) {
    this.#guest = guest;
  }

  async hello(): Promise<GuestHello> {
    return parseJson(helloSchema, 'hello', await this.#verb(['hello']));
  }

  /**
   * Makes paths of the lower layer valid in the guest.
   * @param registration see `formatRegistration`; where the store is exact, the paths' listings before it
   * @param again the guest has seen some of the paths before, and the host has recreated them since
   * @returns the paths that the guest does not see. If there are any, nothing was registered.
   */
  async register(registration: string, again = false): Promise<readonly string[]> {
    const { exitCode, stdout, stderr } = again
      ? await this.#guest.exec(['drover-guest', 'register', '--again'], registration)
      : await this.#registerNow(registration);
    if (exitCode === EXIT_MISSING) return stdout.split('\n').filter((line) => line !== '');
    if (exitCode !== 0) throw failed('register', exitCode, stderr);
    return [];
  }

  /** Starts the next `register` before its input is known: it then takes half the time. */
  prepareRegister(): void {
    this.#prepared ??= this.#startRegister();
  }

  #startRegister(): PreparedRegister {
    let begin: PreparedRegister['begin'] = () => undefined;
    const registration = new Promise<string>((resolve) => {
      begin = resolve;
    });
    const result = this.#guest.exec(['drover-guest', 'register'], registration);
    const prepared = { begin, result };
    // It ends before its time when the guest does.
    const forget = (): void => {
      if (this.#prepared === prepared) this.#prepared = undefined;
    };
    result.then(forget, forget);
    return prepared;
  }

  async #registerNow(registration: string): Promise<ExecResult> {
    const { begin, result } = this.#prepared ?? this.#startRegister();
    this.#prepared = undefined;
    begin(registration);
    return await result;
  }

  /** @param unixSeconds also set the guest's clock to this time, in seconds since 1970 */
  async stats(unixSeconds?: number): Promise<GuestStats> {
    const time = unixSeconds === undefined ? [] : [String(Math.floor(unixSeconds))];
    return parseJson(statsSchema, 'stats', await this.#verb(['stats', ...time]));
  }

  /** @param derivation file name in the store @returns undefined if no process of the build is found */
  async buildUsage(derivation: string): Promise<UsageSample | undefined> {
    const text = await this.#verb(['build-usage', derivation]);
    return text === '' ? undefined : parseJson(usageSchema, 'build-usage', text);
  }

  /** Memory of the guest, as the host counts it. */
  memory(): GuestMemory | undefined {
    return this.#guest.memory?.();
  }

  /**
   * Keeps the directory of a failed build. @throws DroverError if it is not a directory that Nix has made
   * @param environment shell that sets the build's variables
   */
  async keepBuild(directory: string, environment: string): Promise<void> {
    await this.#verb(['keep', directory], environment);
  }

  /** Removes the directory of a failed build. */
  async dropBuild(directory: string): Promise<void> {
    await this.#verb(['drop', directory]);
  }

  /** @param unixSeconds the host's time, in whole seconds since 1970 */
  async setClock(unixSeconds: number): Promise<void> {
    await this.#verb(['set-clock', String(Math.floor(unixSeconds))]);
  }

  async #verb(verb: readonly string[], stdin?: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.#guest.exec(['drover-guest', ...verb], stdin);
    if (exitCode !== 0) throw failed(verb[0] ?? '', exitCode, stderr);
    return stdout;
  }
}

function parseJson<T>(schema: z.ZodType<T>, verb: string, text: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new DroverError('GUEST_AGENT_FAILED', `The guest's answer to ${verb} makes no sense`, {
      cause,
      context: { verb },
    });
  }
}

function failed(verb: string, exitCode: number, stderr: string): DroverError {
  const said = stderr.trim().slice(-2000);
  return new DroverError(
    'GUEST_AGENT_FAILED',
    `drover-guest ${verb} failed in the guest (exit status ${exitCode}): ${said}`,
    {
      context: { verb, exitCode },
    },
  );
}
