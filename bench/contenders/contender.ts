import { join } from 'node:path';

import type { Host } from '../host.js';
import { timeBuild, type Timing } from '../process.js';

export type ContenderName = 'local' | 'classic' | 'socket' | 'ssh';

/** One way to build, from the view of a Nix client. */
export interface Contender {
  readonly name: ContenderName;
  /** Environment of its clients. */
  readonly env: NodeJS.ProcessEnv;
  build(derivation: string): Promise<Timing>;
}

export const JOBS = 4;

/**
 * A client that is only configured where to build. `confName`: a separate directory for its configuration.
 */
export async function client(
  host: Host,
  name: ContenderName,
  confName: string,
  settings: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Contender> {
  const conf = await host.writeNixConf(confName, settings);
  const all = { ...host.env, ...env, NIX_CONF_DIR: conf };
  return {
    name,
    env: all,
    build: async (derivation) => await timeBuild(join(host.nix, 'nix-store'), ['--realise', derivation], all),
  };
}

/** Settings of a client without local builds. */
export function remoteOnly(machine: string): string[] {
  return ['max-jobs = 0', `builders = ${machine}`];
}
