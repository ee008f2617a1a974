import { access, constants, realpath } from 'node:fs/promises';
import { join } from 'node:path';

import { DroverError } from './errors.js';

/** The first executable of that name on PATH, its links resolved. */
export async function findProgram(env: NodeJS.ProcessEnv, name: string): Promise<string | undefined> {
  for (const directory of (env['PATH'] ?? '').split(':')) {
    if (!directory.startsWith('/')) continue;
    try {
      await access(join(directory, name), constants.X_OK);
      return await realpath(join(directory, name));
    } catch {
      continue;
    }
  }
  return undefined;
}

/** @throws DroverError `REQUIREMENT_MISSING`, with `hint` */
export async function requireProgram(env: NodeJS.ProcessEnv, name: string, hint: string): Promise<string> {
  const path = await findProgram(env, name);
  if (path !== undefined) return path;
  throw new DroverError('REQUIREMENT_MISSING', `The program ${name} is not on PATH`, { hint });
}
