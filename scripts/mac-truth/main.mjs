// main.mjs --helper PROGRAM --image DIRECTORY [--files N] [--sleep] [--json FILE]: scripts/mac-truth.sh describes it.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { configurationOf, Helper } from './helper.mjs';
import { makeStore } from './host.mjs';
import { ENDS, SUPERVISOR, WHILE_IT_RUNS } from './probes.mjs';

const { values: options } = parseArgs({
  options: {
    helper: { type: 'string' },
    image: { type: 'string' },
    files: { type: 'string', default: '100000' },
    sleep: { type: 'boolean', default: false },
    json: { type: 'string' },
    supervise: { type: 'string' },
    only: { type: 'string' },
  },
});

if (options.supervise !== undefined) {
  const { program, configuration } = JSON.parse(readFileSync(options.supervise, 'utf8'));
  const guest = new Helper(program, configuration);
  await guest.boot();
  console.log([guest.process.pid, ...guest.machines].join(' '));
} else {
  process.exitCode = await ask(resolve(options.helper ?? ''), resolve(options.image ?? ''));
}

async function ask(program, image) {
  const files = Number(options.files);
  if (!Number.isSafeInteger(files) || files < 1) {
    console.error(`mac-truth: --files ${options.files} is not a number of files`);
    return 2;
  }
  const root = mkdtempSync(join(tmpdir(), 'truth-'));
  const store = join(root, 'store');
  let names;
  const rows = [];
  let guests = 0;
  const configure = () => {
    const directory = join(root, String((guests += 1)));
    mkdirSync(directory);
    return configurationOf({ image, store, directory });
  };
  const note = async (probe, run) => {
    if (options.only !== undefined && !probe.name.includes(options.only)) return;
    const result = await run().catch((error) => ({ seen: error.message, holds: false }));
    rows.push({ probe: probe.name, asks: probe.asks, ...result });
    console.log(`mac-truth: ${verdict(result)} ${probe.name}: ${result.seen}`);
  };
  const withGuest = async (use) => {
    const guest = new Helper(program, configure());
    try {
      const steps = await guest.boot();
      return await use({ guest, steps, names, store, files, canSleep: options.sleep });
    } finally {
      await guest.close();
    }
  };
  let facts = {};
  try {
    console.log(`mac-truth: writes ${files} files`);
    names = makeStore(store, files);
    await note({ name: 'hello', asks: 'what vz-helper finds out about this Mac' }, async () => {
      const guest = new Helper(program, configure());
      try {
        facts = await guest.ask('hello', { protocol: 1 });
      } finally {
        await guest.close();
      }
      return { seen: JSON.stringify(facts), holds: facts.supported === true };
    });
    await withGuest(async (context) => {
      const { guest, steps } = context;
      await note(
        { name: 'boot', asks: 'milliseconds from configure to the first answer over vsock' },
        async () => {
          const printed = Array.from(
            guest.console().matchAll(/truth: (.*) \((.*) s\)/g),
            ([, what, s]) => `${what}: ${s} s`,
          );
          return {
            seen: `${Object.entries(steps)
              .map((step) => step.join(' '))
              .join(', ')}; in the guest: ${printed.join(', ')}`,
          };
        },
      );
      for (const probe of WHILE_IT_RUNS)
        await note(probe, async () => {
          const result = await probe.run(context);
          // A helper or a guest that did not survive the question is no answer to it.
          await guest.command('names');
          return result;
        });
    });
    for (const probe of ENDS)
      await note(probe, async () => await withGuest(async (context) => await probe.run(context)));
    await note(SUPERVISOR, async () => {
      const file = join(root, 'supervised.json');
      writeFileSync(file, JSON.stringify({ program, configuration: configure() }));
      return await SUPERVISOR.run(fileURLToPath(import.meta.url), file);
    });
  } catch (error) {
    console.error(`mac-truth: ${error.message}`);
    rows.push({ probe: 'guest', asks: 'whether a guest comes up', seen: error.message, holds: false });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  console.log(`\n| probe | as needed | seen |\n| --- | --- | --- |`);
  for (const { probe, seen, ...rest } of rows)
    console.log(`| ${probe} | ${verdict(rest)} | ${seen.replaceAll('|', '\\|')} |`);
  const report = {
    date: new Date().toISOString(),
    platform: process.platform,
    kernel: release(),
    facts,
    rows,
  };
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  if (rows.length === 0) {
    console.error(`mac-truth: no probe has "${options.only}" in its name`);
    return 2;
  }
  return rows.some(({ holds }) => holds === false) ? 1 : 0;
}

function verdict({ holds }) {
  if (holds === undefined) return '–';
  return holds ? 'yes' : 'NO';
}
