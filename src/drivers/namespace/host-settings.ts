import { access, constants, stat } from 'node:fs/promises';

import { DroverError, errorMessage } from '../../lib/errors.js';
import { CA_FILE, type EtcFiles } from './etc.js';

/** Settings of nix.conf that name files of the host, each with the place of its copies in the guests' `/etc`. */
const FILE_SETTINGS: Readonly<Record<string, (index: number) => string>> = {
  'ssl-cert-file': () => CA_FILE,
  'netrc-file': () => 'nix/netrc',
  'secret-key-files': (index) => `nix/secret-key-${index}`,
};
const STORE = '/nix/store/';

interface HostSettings {
  /** The settings, with the paths of the copies. */
  readonly nixConf: Readonly<Record<string, string>>;
  /** Files of the host to copy. */
  readonly sources: EtcFiles;
  /** Settings that cannot work: a sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Gives guests the files that their settings name.
 * @throws DroverError `CONFIG_INVALID` if one cannot be read
 */
export async function hostSettings(given: Readonly<Record<string, string>>): Promise<HostSettings> {
  const nixConf: Record<string, string> = { ...given };
  const sources: Record<string, string> = {};
  for (const [setting, placeOf] of Object.entries(FILE_SETTINGS)) {
    const files = words(given[setting]);
    if (files.length === 0) continue;
    const paths: string[] = [];
    for (const [index, file] of files.entries()) {
      const isCopied = !file.startsWith(STORE);
      if (isCopied) {
        await requireReadable(setting, file);
        sources[placeOf(index)] = file;
      }
      paths.push(isCopied ? `/etc/${placeOf(index)}` : file);
    }
    nixConf[setting] = paths.join(' ');
  }
  return { nixConf, sources, warnings: absentPaths(given) };
}

async function requireReadable(setting: string, file: string): Promise<void> {
  try {
    await access(file, constants.R_OK);
  } catch (error) {
    throw new DroverError(
      'CONFIG_INVALID',
      `guest.nixConf: ${setting} names ${file}, which cannot be read: ${errorMessage(error)}`,
      { hint: 'Name a file of this host; guests get a copy of it.' },
    );
  }
}

/** Builds fail if a path of the sandbox is not there, unless its name ends in a question mark. */
function absentPaths(given: Readonly<Record<string, string>>): string[] {
  return ['sandbox-paths', 'extra-sandbox-paths'].flatMap((setting) =>
    words(given[setting])
      .map((word) => word.slice(word.indexOf('=') + 1))
      .filter((source) => !source.startsWith(STORE) && !source.startsWith('/bin/') && !source.endsWith('?'))
      .map(
        (source) =>
          `guest.nixConf: ${setting} names ${source}, which guests do not have: builds fail; use a path in /nix/store`,
      ),
  );
}

const words = (text = ''): string[] => text.split(/\s+/).filter((word) => word !== '');

/** Requirements of the system features of Nix that are more than a name. */
export interface FeatureNeeds {
  readonly kvm: boolean;
  /** Each build has 65536 user ids. */
  readonly uidRange: boolean;
  readonly experimental: readonly string[];
}

/** @throws DroverError `REQUIREMENT_MISSING` if the host or its Nix cannot serve one */
export async function featureNeeds(features: readonly string[], nixVersion: string): Promise<FeatureNeeds> {
  const refuse = (feature: string, why: string, hint: string): never => {
    throw new DroverError('REQUIREMENT_MISSING', `features: ${feature} cannot be served: ${why}`, { hint });
  };
  const kvm = features.includes('kvm');
  if (kvm && !(await isDevice('/dev/kvm')))
    refuse(
      'kvm',
      'this host has no /dev/kvm',
      'Enable virtualization on the host, or leave out the feature.',
    );
  if (features.includes('apple-virt')) refuse('apple-virt', 'guests run Linux', 'Leave it out.');
  const uidRange = features.includes('uid-range');
  const [major = 0, minor = 0] = nixVersion.split('.').map(Number);
  if (uidRange && (major < 2 || (major === 2 && minor < 12)))
    refuse(
      'uid-range',
      `Nix ${nixVersion} has no auto-allocate-uids`,
      'Name a Nix from 2.12 on as guest.nix.',
    );
  return {
    kvm,
    uidRange,
    experimental: [
      ...(uidRange ? ['auto-allocate-uids', 'cgroups'] : []),
      ...(features.includes('recursive-nix') ? ['recursive-nix'] : []),
    ],
  };
}

async function isDevice(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isCharacterDevice(),
    () => false,
  );
}
