import type { GuestImage } from '../vm/image.js';
import type { HelperFacts } from './helper-protocol.js';

/** Systems that guests on Apple silicon build by a translator only. */
const TRANSLATED_SYSTEMS: ReadonlySet<string> = new Set(['x86_64-linux', 'i686-linux']);

/** Runner of x86_64 programs: macOS' Rosetta, or QEMU's user emulator in the guest's image. */
export type Translator = 'rosetta' | 'qemu-user';

export interface TranslationOptions {
  readonly rosetta: {
    readonly enable: boolean;
    /** Whether translations are kept as long as the guest lives, if macOS supports it. */
    readonly cache: boolean;
  };
  /** Translators of x86_64 programs, the preferred one first. */
  readonly x86_64: readonly Translator[];
}

/** How guests run programs of other machines, and the image's systems that result. */
export interface TranslationPlan {
  /** In the order in which guests try them; each guest uses the first that works. */
  readonly translators: readonly Translator[];
  readonly rosetta: 'off' | 'on' | 'cache';
  readonly systems: readonly string[];
  /** Systems that a translator runs. */
  readonly translated: readonly string[];
  /** Systems of the image that this Mac lacks every translator for. */
  readonly absent: readonly string[];
  /** Undefined: all is as well as it could be. */
  readonly warning: string | undefined;
  /** See `GuestDriver.systemsHint`. */
  readonly systemsHint: string;
}

const ASK_THE_IMAGE = 'choose an image that has it in its manifest (guest.image)';
const INSTALL = 'install Rosetta (softwareupdate --install-rosetta) and restart Drover';
/** Outcome where programs are emulated in place of translated. */
export const EMULATED = "is built with QEMU's user emulation, which is many times slower";

/** Translators are used where they are there, wanted, and needed. */
export function planTranslation(
  image: Pick<GuestImage, 'architecture' | 'systems' | 'translators'>,
  { rosetta, rosettaCache }: Pick<HelperFacts, 'rosetta' | 'rosettaCache'>,
  { rosetta: { enable, cache }, x86_64 }: TranslationOptions,
): TranslationPlan {
  const { systems } = image;
  const foreign =
    image.architecture === 'aarch64' ? systems.filter((system) => TRANSLATED_SYSTEMS.has(system)) : [];
  const wanted =
    foreign.length === 0 ? [] : x86_64.filter((translator) => translator !== 'rosetta' || enable);
  const translators = wanted.filter((translator) =>
    translator === 'rosetta' ? rosetta === 'installed' : image.translators?.includes(translator) === true,
  );
  const served = translators.length > 0 ? foreign : [];
  const names = foreign.join(' and ');
  const lacksRosetta = wanted.includes('rosetta') && rosetta !== 'installed';
  const outcome = served.length > 0 ? EMULATED : 'is not built here';
  const common = {
    translators,
    rosetta: !translators.includes('rosetta') ? 'off' : cache && rosettaCache ? 'cache' : 'on',
    systems: systems.filter((system) => !foreign.includes(system) || served.includes(system)),
    translated: served,
    absent: wanted.length === 0 ? [] : foreign.filter((system) => !served.includes(system)),
  } as const;
  if (foreign.length > 0 && wanted.length === 0) {
    return { ...common, warning: undefined, systemsHint: 'set guest.rosetta.enable to true' };
  }
  if (lacksRosetta && rosetta === 'notSupported') {
    const systemsHint = 'use a Mac with Apple silicon and a macOS that has Rosetta';
    return { ...common, warning: `this Mac has no Rosetta for Linux: ${names} ${outcome}`, systemsHint };
  }
  if (lacksRosetta) {
    const warning = `Rosetta is not installed: ${names} ${outcome}; to have it, ${INSTALL}`;
    return { ...common, warning, systemsHint: INSTALL };
  }
  const warning =
    common.absent.length === 0
      ? undefined
      : `the guest image has none of the translators in guest.x86_64 (${x86_64.join(', ')}): ${names} ${outcome}`;
  return { ...common, warning, systemsHint: ASK_THE_IMAGE };
}
