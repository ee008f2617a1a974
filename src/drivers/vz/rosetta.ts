import type { GuestImage } from '../vm/image.js';
import type { HelperFacts } from './helper-protocol.js';

/** Systems that guests on Apple silicon build by Rosetta only. */
const TRANSLATED_SYSTEMS: ReadonlySet<string> = new Set(['x86_64-linux', 'i686-linux']);

export interface RosettaOptions {
  readonly enable: boolean;
  /** Whether translations are kept as long as the guest lives, if macOS supports it. */
  readonly cache: boolean;
}

/** Rosetta's part in guests, and the image's systems that result. */
export interface RosettaPlan {
  readonly use: 'off' | 'on' | 'cache';
  readonly systems: readonly string[];
  /** Systems that Rosetta runs. */
  readonly translated: readonly string[];
  /** Systems of the image that this Mac lacks Rosetta for. */
  readonly absent: readonly string[];
  /** Undefined: all is as well as it could be. */
  readonly warning: string | undefined;
  /** See `GuestDriver.systemsHint`. */
  readonly systemsHint: string;
}

const ASK_THE_IMAGE = 'choose an image that has it in its manifest (guest.image)';

/** Rosetta is used where it is there, wanted, and of use. */
export function planRosetta(
  { architecture, systems }: Pick<GuestImage, 'architecture' | 'systems'>,
  { rosetta, rosettaCache }: Pick<HelperFacts, 'rosetta' | 'rosettaCache'>,
  wanted: RosettaOptions,
): RosettaPlan {
  const translated =
    architecture === 'aarch64' ? systems.filter((system) => TRANSLATED_SYSTEMS.has(system)) : [];
  if (translated.length === 0) {
    return {
      use: 'off',
      systems,
      translated,
      absent: [],
      warning: undefined,
      systemsHint: ASK_THE_IMAGE,
    };
  }
  if (wanted.enable && rosetta === 'installed') {
    const use = wanted.cache && rosettaCache ? 'cache' : 'on';
    return { use, systems, translated, absent: [], warning: undefined, systemsHint: ASK_THE_IMAGE };
  }
  const without = {
    use: 'off' as const,
    systems: systems.filter((system) => !translated.includes(system)),
    translated: [],
    absent: translated,
  };
  if (!wanted.enable) {
    return { ...without, absent: [], warning: undefined, systemsHint: 'set guest.rosetta.enable to true' };
  }
  const names = translated.join(' and ');
  if (rosetta === 'notSupported') {
    const systemsHint = 'use a Mac with Apple silicon and macOS 13 or later';
    return {
      ...without,
      warning: `this Mac has no Rosetta for Linux: ${names} is not built here`,
      systemsHint,
    };
  }
  const systemsHint = 'install Rosetta (softwareupdate --install-rosetta) and restart Drover';
  return {
    ...without,
    warning: `Rosetta is not installed: ${names} is not built here; to have it, ${systemsHint}`,
    systemsHint,
  };
}
