import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { configSchema } from '../src/config/schema.js';
import { EXIT } from '../src/lib/error-codes.js';
import { errorMessage } from '../src/lib/errors.js';
import { DemoError } from './processes.js';

/**
 * Makes the directory that holds everything of a demo.
 * @throws DemoError where there can be none, or none that can hold a supervisor's state
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
      '  Set TMPDIR to another one, such as /tmp.',
    EXIT.configuration,
  );
}

/**
 * The environment of a demo's programs: what they keep or leave goes where the demo removes it, and Nix is the machine's
 * own with its usual store, whatever the caller's variables and files say of another.
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
