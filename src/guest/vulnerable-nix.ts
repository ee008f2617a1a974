import { DroverError } from '../lib/errors.js';

/** A hole in Nix that lets one build or client change what another one gets, or leave Nix's sandbox. */
interface Hole {
  readonly id: string;
  readonly what: string;
  /** The public advisory. */
  readonly source: string;
  /** First version that has it; undefined: all before the fix. */
  readonly since?: string;
  /** First version of each release branch that does not have it. Branches between and before these were not fixed. */
  readonly fixed: readonly string[];
  /** Builds and untrusted clients can use it. The front does not let them reach the others. */
  readonly exposed: boolean;
}

const ADVISORY = 'https://github.com/NixOS/nix/security/advisories';
const FIXED_IN_JUNE_2025 = ['2.24.15', '2.26.4', '2.28.4', '2.29.1'];
const JUNE_2025 =
  'https://discourse.nixos.org/t/security-advisory-privilege-escalations-in-nix-lix-and-guix/66017';

/** Holes in Nix on Linux, the system of all guests. Those of macOS only, such as CVE-2024-51481, are not in it. */
const HOLES: readonly Hole[] = [
  {
    id: 'CVE-2024-27297',
    what: 'a fixed output can be changed after it was registered',
    source: `${ADVISORY}/GHSA-2ffj-w4mj-pg37`,
    fixed: ['2.3.18', '2.16.3', '2.18.2', '2.19.4', '2.20.5'],
    exposed: true,
  },
  {
    id: 'CVE-2024-38531',
    what: "a build's directory can be reached from outside its sandbox",
    source: `${ADVISORY}/GHSA-q82p-44mg-mgh5`,
    fixed: ['2.18.4', '2.19.5', '2.20.7', '2.21.3', '2.22.2', '2.23.1'],
    exposed: true,
  },
  {
    id: 'CVE-2024-45593',
    what: 'a NAR can write to any file of the guest',
    source: `${ADVISORY}/GHSA-h4vv-h3jq-v493`,
    since: '2.24.0',
    fixed: ['2.24.6'],
    exposed: true,
  },
  {
    id: 'CVE-2025-46415',
    what: 'deleting a build directory can delete other files',
    source: JUNE_2025,
    fixed: FIXED_IN_JUNE_2025,
    exposed: true,
  },
  {
    id: 'CVE-2025-46416',
    what: 'builds can pass each other descriptors, and become the build user',
    source: JUNE_2025,
    fixed: FIXED_IN_JUNE_2025,
    exposed: true,
  },
  {
    id: 'CVE-2025-52991',
    what: 'builds use temporary directories that other users can reach',
    source: JUNE_2025,
    fixed: FIXED_IN_JUNE_2025,
    exposed: true,
  },
  {
    id: 'CVE-2025-52992',
    what: 'what a failed build leaves can be changed from outside its sandbox',
    source: JUNE_2025,
    fixed: FIXED_IN_JUNE_2025,
    exposed: true,
  },
  {
    id: 'CVE-2025-52993',
    what: 'a build can have other files given to the build user',
    source: JUNE_2025,
    fixed: FIXED_IN_JUNE_2025,
    exposed: true,
  },
  {
    id: 'CVE-2026-39860',
    what: 'a fixed output can overwrite any file of the guest',
    source: `${ADVISORY}/GHSA-g3g9-5vj6-r3gj`,
    since: '2.18.2',
    fixed: ['2.28.6', '2.29.3', '2.30.4', '2.31.4', '2.32.7', '2.33.4', '2.34.5'],
    exposed: true,
  },
  {
    id: 'CVE-2026-44028',
    what: 'a deeply nested NAR overwrites the memory of the nix-daemon',
    source: `${ADVISORY}/GHSA-vh5x-56v6-4368`,
    since: '2.24.4',
    fixed: ['2.28.7', '2.29.4', '2.30.5', '2.31.5', '2.32.8', '2.33.6', '2.34.7'],
    exposed: true,
  },
  {
    id: 'CVE-2026-110450',
    what: 'a repair replaces a path before the new content is verified',
    source: 'https://www.cve.org/CVERecord?id=CVE-2026-110450',
    fixed: ['2.28.8', '2.30.6', '2.31.6', '2.34.9', '2.35.3'],
    // Only trusted clients may repair.
    exposed: false,
  },
];

type Version = readonly [minor: number, patch: number];

/** Reads `2.34.8`; of what distributions append, nothing. Undefined for another major version: none is known. */
function parseVersion(text: string): Version | undefined {
  const [, minor, patch] = /^2\.(\d+)(?:\.(\d+))?/.exec(text) ?? [];
  return minor === undefined ? undefined : [Number(minor), Number(patch ?? 0)];
}

function isBefore([minor, patch]: Version, [otherMinor, otherPatch]: Version): boolean {
  return minor < otherMinor || (minor === otherMinor && patch < otherPatch);
}

function hasHole(version: Version, { since, fixed }: Hole): boolean {
  const first = since === undefined ? undefined : parseVersion(since);
  if (first !== undefined && isBefore(version, first)) return false;
  const fixes = fixed.flatMap((text) => [parseVersion(text)].filter((fix) => fix !== undefined));
  const ofBranch = fixes.find(([minor]) => minor === version[0]);
  if (ofBranch !== undefined) return isBefore(version, ofBranch);
  // A branch that began after the last of these has the fix.
  return fixes.some(([minor]) => version[0] < minor);
}

/** Known holes of a Nix, by its version alone: a distribution may have mended some of them without saying so. */
export function holesOf(nixVersion: string): readonly Hole[] {
  const version = parseVersion(nixVersion);
  return version === undefined ? [] : HOLES.filter((hole) => hasHole(version, hole));
}

/** A sentence for `status` and the log; undefined if no hole is known. */
export function nixWarning(nixVersion: string): string | undefined {
  const holes = holesOf(nixVersion);
  if (holes.length === 0) return undefined;
  const names = holes.map(({ id, what }) => `${id} (${what})`).join(', ');
  return `Nix ${nixVersion} in guests has known security holes: ${names}; update it`;
}

/**
 * Refuses a Nix that other machines' clients could attack.
 * @throws DroverError `NIX_VULNERABLE`
 */
export function requireSafeNix(
  nixVersion: string,
  { hasSshDoor, accepted }: { readonly hasSshDoor: boolean; readonly accepted: boolean },
): void {
  const exposed = holesOf(nixVersion).filter((hole) => hole.exposed);
  const [first] = exposed;
  if (!hasSshDoor || accepted || first === undefined) return;
  throw new DroverError(
    'NIX_VULNERABLE',
    `doors.ssh is open to other machines, and Nix ${nixVersion} in guests has known security holes: ${exposed.map(({ id }) => id).join(', ')} (the first: ${first.source})`,
    {
      hint: 'Update the Nix of guests (guest.nix, or the image). If every client may change what the others build, set guest.acceptVulnerableNix: true.',
    },
  );
}
