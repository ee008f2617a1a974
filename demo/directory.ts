import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { configSchema } from '../src/config/schema.js';
import { EXIT } from '../src/lib/error-codes.js';
import { errorMessage } from '../src/lib/errors.js';
import { DemoError } from './processes.js';

/**
 * Creates the directory that holds everything of a demo.
 * @throws DemoError if it cannot be created, or cannot hold a supervisor's state
 */
export async function makeDemoDirectory(): Promise<string> {
  const parent = tmpdir();
  let directory: string;
  try {
    directory = await mkdtemp(join(await realpath(parent), 'drover-demo-'));
  } catch (error) {
    throw unusable(parent, errorMessage(error));
  }
  const reason = configSchema(join(directory, 'state')).safeParse({}).error?.issues[0]?.message;
  if (reason === undefined) return directory;
  await rm(directory, { recursive: true });
  throw unusable(parent, reason);
}

function unusable(parent: string, reason: string): DemoError {
  return new DemoError(
    `The demo cannot use the directory ${parent} for its temporary files: ${reason}\n` +
      '  Set TMPDIR to another directory, such as /tmp.',
    EXIT.configuration,
  );
}

/**
 * Environment of a demo's programs. Files they keep or leave go to a directory that the demo removes, and Nix
 * is the machine's own with its default store, whatever the caller's variables and files say.
 */
export function plainEnv(env: NodeJS.ProcessEnv, directory: string): NodeJS.ProcessEnv {
  const plain = Object.entries(env).filter(([name]) => !name.startsWith('NIX_'));
  return {
    ...Object.fromEntries(plain),
    TMPDIR: directory,
    HOME: directory,
    XDG_CACHE_HOME: directory,
    XDG_CONFIG_HOME: directory,
    XDG_CONFIG_DIRS: directory,
    XDG_STATE_HOME: directory,
  };
}
