import { randomUUID } from 'node:crypto';

import type { DroverEvent } from '../../control/api.js';
import { followEvents } from '../../control/client.js';
import { failure, ok, skipped, type Check, type DoctorContext, type Finding } from '../check.js';
import { readMachines } from '../builders-setting.js';
import { nixSettings } from '../nix-settings.js';

const NAME = 'drover-doctor';

/** A derivation of one line that no store has: its environment holds a nonce. */
function expression(system: string): string {
  const nonce = randomUUID();
  return `derivation { name = "${NAME}"; system = "${system}"; builder = "/bin/sh"; args = [ "-c" "echo ok > $out" ]; nonce = "${nonce}"; }`;
}

/** Builds one line through a machine, and says how long each step took. */
async function build(context: DoctorContext, machine: string): Promise<Finding> {
  const { status, config, run, env } = context;
  const [system] = status?.systems ?? [];
  if (system === undefined) return skipped('needs a running supervisor');
  const done = new AbortController();
  const steps = collect(await followEvents(config.stateDir, done.signal));
  const startedAt = performance.now();
  const { exitCode, stderr } = await run(
    'nix-build',
    [
      ...['--no-out-link', '--max-jobs', '0', '--builders', machine],
      ...['--option', 'substitute', 'false', '-E', expression(system)],
    ],
    { env },
  );
  const totalMs = Math.round(performance.now() - startedAt);
  if (exitCode !== 0) {
    done.abort();
    return failure(
      `the build failed: ${lastLines(stderr)}`,
      'The console logs of guests and drover status may say why.',
    );
  }
  const parts = [...(await steps), `${totalMs} ms in all`];
  return ok(`${system}: ${parts.join(', ')}`);
}

async function collect(events: AsyncIterable<DroverEvent>): Promise<readonly string[]> {
  const steps: string[] = [];
  for await (const event of events) {
    if (event.type === 'boot-finished')
      steps.push(`boot ${Math.round(event.durationMs)} ms (${event.result})`);
    if (event.type === 'lease-granted') steps.push(`lease after ${Math.round(event.waitedMs)} ms`);
    if (event.type === 'build-finished' && event.derivation.endsWith(`-${NAME}.drv`)) {
      steps.push(`build ${Math.round(event.durationMs)} ms`);
      break;
    }
  }
  return steps;
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-3).join(' / ');
}

const socket: Check = {
  id: 'build-socket',
  title: 'A build through the socket door succeeds',
  run: async (context) => {
    const { status, uid, socketMachine } = context;
    if (status === undefined) return skipped('needs a running supervisor');
    if (uid !== 0) return skipped('only root may name machines for a build; run drover doctor with sudo');
    return await build(context, socketMachine(status.systems));
  },
};

const ssh: Check = {
  id: 'build-ssh',
  title: 'A build through the ssh door succeeds',
  run: async (context) => {
    const { status, home, uid } = context;
    if (status === undefined || status.doors.ssh === null) return skipped('the ssh door is not open');
    if (uid !== 0) return skipped('only root may name machines for a build; run drover doctor with sudo');
    const builders = (await nixSettings(context, home)).get('builders');
    const text = typeof builders === 'string' ? builders : '';
    const machine = (await readMachines(text)).find(({ store }) =>
      /^ssh-ng:\/\/(?!localhost\b)|remote-program=ssh%20/.test(store),
    );
    if (machine === undefined)
      return skipped('this host is no client of its own ssh door: its machines have no ssh-ng line');
    return await build(
      context,
      `${machine.store} ${machine.systems.join(',')} - 1 1 ${machine.features.join(',') || '-'}`,
    );
  },
};

export const BUILD_CHECKS: readonly Check[] = [socket, ssh];
