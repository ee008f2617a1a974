import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { exitCodeOf, renderError } from '../src/cli/failure.js';
import { loadConfig } from '../src/config/load.js';
import { EXIT } from '../src/lib/error-codes.js';
import { DemoError } from './processes.js';
import { demo } from './run.js';

const USAGE = `usage: npm run demo -- [--small] [--cache DIR] [--config FILE]
  --small        only the smaller half of the graph
  --cache DIR    where downloads are kept (default: they are removed at the end)
  --config FILE  configuration of the supervisor to start from
`;

/** The repository: this file is compiled to dist/demo/demo/main.js. */
const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

const outputLost = new Promise<void>((resolve) => {
  process.stdout.on('error', () => {
    resolve();
  });
});

async function main(): Promise<number> {
  const { cache, config, help, small } = parseOptions();
  if (help === true) {
    process.stdout.write(USAGE);
    return EXIT.ok;
  }
  const { env } = process;
  // Rejects a wrong configuration with its own file name, before anything is started.
  if (config !== undefined)
    await loadConfig({ file: config, env, uid: process.getuid?.() ?? -1, home: homedir() });
  await demo({
    cache,
    config,
    small: small === true,
    env,
    packageDir: REPOSITORY,
    command: [process.execPath, join(REPOSITORY, 'dist/main.js')],
    print: (text) => process.stdout.write(text),
    columns: process.stdout.columns,
    outputLost,
  });
  return EXIT.ok;
}

function parseOptions() {
  return parseArgs({
    options: {
      cache: { type: 'string' },
      config: { type: 'string' },
      small: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) {
    process.stderr.write(`demo: ${error.message}\n${USAGE}`);
    process.exitCode = EXIT.usage;
  } else {
    process.stderr.write(renderError(error));
    process.exitCode = error instanceof DemoError ? error.exitStatus : exitCodeOf(error);
  }
}
