import { StoredListings, type Listings } from '../../guest/stored-listings.js';
import type { GuestHello } from '../../guest/agent.js';
import { run } from '../../lib/process.js';

/** Warning about an image without the program. */
export const NO_EXACT_STORE =
  "the guest image has no exact-store: guests see the host's store as VirtioFS shares it, with every file of it; rebuild the image, or set guest.store to raw";

/** View of the host's store in VMs: `guest.store`. */
export class StoreView {
  readonly #listings: StoredListings | undefined;
  /** The kernel's parameters for it, read by the initrd. */
  readonly kernelParameters: string;
  /** Whether a guest had no exact store although it was to have one. */
  lacking = false;

  private constructor(listings: StoredListings | undefined, caseHack: boolean) {
    this.#listings = listings;
    this.kernelParameters =
      listings === undefined
        ? 'drover.store=raw'
        : `drover.store=exact${caseHack ? ' drover.case-hack' : ''}`;
  }

  static async create(
    wanted: 'exact' | 'raw',
    directory: string,
    env: NodeJS.ProcessEnv,
  ): Promise<StoreView> {
    if (wanted === 'raw') return new StoreView(undefined, false);
    const settings = await hostSettings(env);
    // Nix's default on macOS, and a setting elsewhere.
    const caseHack = process.platform === 'darwin' || /^use-case-hack = true$/m.test(settings);
    return new StoreView(new StoredListings(directory, caseHack), caseHack);
  }

  get wanted(): 'exact' | 'raw' {
    return this.#listings === undefined ? 'raw' : 'exact';
  }

  /** Listings of paths for a guest that has said hello. */
  listingsFor({ exactStore }: Pick<GuestHello, 'exactStore'>): Listings | undefined {
    if (!exactStore && this.#listings !== undefined) this.lacking = true;
    return exactStore ? this.#listings : undefined;
  }

  async prune(): Promise<void> {
    await this.#listings?.prune();
  }
}

/**
 * A warning if the host's Nix replaces files in the store by hard links while guests read them. On macOS a file's
 * number then changes under the guests, which see errors.
 */
export async function optimiseWarning(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  return /^auto-optimise-store = true$/m.test(await hostSettings(env))
    ? "the host's Nix has auto-optimise-store, which replaces files under guests that read them: set it to false, and run nix store optimise only while nothing builds"
    : undefined;
}

/** Settings of the host's Nix, a line each; none if it does not say. */
async function hostSettings(env: NodeJS.ProcessEnv): Promise<string> {
  // Nix 2.20 renamed `show-config`.
  for (const verb of [['config', 'show'], ['show-config']]) {
    const args = ['--extra-experimental-features', 'nix-command', ...verb];
    const result = await run('nix', args, { env }).catch(() => undefined);
    if (result?.exitCode === 0) return result.stdout;
  }
  return '';
}
