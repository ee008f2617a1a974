import { readlink, realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

import type { Command } from 'commander';

import { DroverError, errorCode } from '../../lib/errors.js';
import { attach, terminalOf } from '../attach.js';
import { controlClient, type AddCommand } from '../context.js';

/** As many as Linux follows. */
const MAX_LINKS = 40;

interface RunOptions {
  readonly system?: string;
  readonly bind?: readonly string[];
  readonly network?: 'host' | 'none';
}

export const addRun: AddCommand = (program, context, setExitCode) => {
  program
    .command('run')
    .description('run a Linux program of the store in a guest of its own, with this input and output')
    .argument('<program>', 'its path in the store, or a link to it such as ./result/bin/hello')
    .argument('[arguments...]', 'for the program')
    .option('--system <system>', 'refuse a program for another system, such as aarch64-linux')
    .option('--bind <dir[:ro]>', 'a directory of this host that the guest has, too; may be repeated', collect)
    .addOption(
      program.createOption('--network <network>', 'instead of what guests have').choices(['host', 'none']),
    )
    .action(async (path: string, args: readonly string[], options: RunOptions, command: Command) => {
      const client = await controlClient(command, context);
      const { cwd, storeDir } = context;
      const file = await inStore(resolve(cwd, path), storeDir);
      const binds = await Promise.all((options.bind ?? []).map((text) => parseBind(text, cwd)));
      const bound = binds.some(({ directory }) => cwd === directory || cwd.startsWith(`${directory}/`));
      const io = context.programIo();
      const terminal = terminalOf(io, context.env);
      const connection = await client.run({
        terminal,
        argv: [file, ...args],
        system: options.system ?? null,
        network: options.network ?? null,
        binds,
        directory: bound ? cwd : null,
      });
      setExitCode(await attach(connection, io, terminal, context.printError));
    });
};

function collect(value: string, earlier: readonly string[] = []): string[] {
  return [...earlier, value];
}

async function parseBind(
  text: string,
  cwd: string,
): Promise<{ readonly directory: string; readonly readOnly: boolean }> {
  const readOnly = text.endsWith(':ro');
  const named = resolve(cwd, readOnly ? text.slice(0, -':ro'.length) : text);
  try {
    return { directory: await realpath(named), readOnly };
  } catch (cause) {
    throw new DroverError('RUN_REFUSED', `${named} cannot be bound`, {
      cause,
      hint: 'Name a directory that is there.',
    });
  }
}

/**
 * Follows links until the path is in the store, and no further: a program may look at the name that it was called by.
 * @throws DroverError `RUN_REFUSED`
 */
async function inStore(path: string, storeDir: string): Promise<string> {
  let at = path;
  for (let links = 0; links < MAX_LINKS; links++) {
    if (at.startsWith(`${storeDir}/`)) return at;
    const next = await followOne(at);
    if (next === undefined) break;
    at = next;
  }
  throw new DroverError('RUN_REFUSED', `${path} is not in the store (${storeDir})`, {
    hint: 'Name a program below it, or a link to one, such as ./result/bin/hello.',
  });
}

/** Replaces the first link of a path by what it points to. @returns undefined if there is none */
async function followOne(path: string): Promise<string | undefined> {
  const names = path.split('/').slice(1);
  for (let count = 1; count <= names.length; count++) {
    const prefix = `/${names.slice(0, count).join('/')}`;
    const target = await readlink(prefix).catch((cause: unknown) => {
      if (errorCode(cause) === 'EINVAL') return undefined;
      throw new DroverError('RUN_REFUSED', `${path} cannot be found`, {
        cause,
        hint: 'Name a program that is there.',
      });
    });
    if (target !== undefined) return resolve(dirname(prefix), target, ...names.slice(count));
  }
  return undefined;
}
