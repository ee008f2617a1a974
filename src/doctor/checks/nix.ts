import { withHostStore } from '../../host-store/host-store.js';
import { failure, ok, skipped, warning, type Check, type DoctorContext, type Finding } from '../check.js';
import { isSocketDoor, readMachines, type Machine } from '../builders-setting.js';
import { nixSettings } from '../nix-settings.js';
import { count } from '../../lib/human.js';

const MACHINES_FIX = 'drover machines prints the line for /etc/nix/machines.';

const nix: Check = {
  id: 'nix',
  title: 'Nix is installed',
  run: async ({ run }) => {
    const { exitCode, stdout, stderr } = await run('nix', ['--version']);
    return exitCode === 0
      ? ok(stdout.trim())
      : failure(`nix --version ended with ${exitCode}: ${stderr.trim()}`, 'Install Nix again.');
  },
};

const daemon: Check = {
  id: 'nix-daemon',
  title: "The host's store answers",
  run: async ({ env }) => {
    return await withHostStore(env, async (connection) => {
      await connection.queryValidPaths([]);
      return ok('nix-daemon answered');
    });
  },
};

/** Where the superuser's nix.conf is looked for. */
function rootHome(platform: NodeJS.Platform): string {
  return platform === 'darwin' ? '/var/root' : '/root';
}

async function machinesOf(context: DoctorContext, home: string): Promise<readonly Machine[]> {
  const builders = (await nixSettings(context, home)).get('builders');
  return await readMachines(typeof builders === 'string' ? builders : '');
}

async function doorOf(context: DoctorContext, home: string): Promise<Machine | undefined> {
  return (await machinesOf(context, home)).find((machine) => isSocketDoor(machine, context.connectProgram));
}

function reaches(id: string, title: string, home: (context: DoctorContext) => string | undefined): Check {
  return {
    id,
    title,
    run: async (context) => {
      const where = home(context);
      if (where === undefined) return skipped('this user is root');
      const machines = await machinesOf(context, where);
      const door = machines.find((machine) => isSocketDoor(machine, context.connectProgram));
      if (door !== undefined)
        return ok(`one of ${count(machines.length, 'machine')} is ${context.connectProgram}`);
      const overridden =
        machines.length === 0
          ? 'builders names no machine'
          : `builders names ${count(machines.length, 'machine')}, and Drover's socket door is not among them`;
      return failure(overridden, MACHINES_FIX);
    },
  };
}

const offered: Check = {
  id: 'machines-line',
  title: "Nix's list of machines offers what guests serve",
  run: async (context) => {
    const { status, config } = context;
    if (status === undefined) return skipped('needs a running supervisor');
    const door = await doorOf(context, rootHome(context.platform));
    if (door === undefined) return skipped('there is no line for the socket door');
    return compare(door, status.systems, config.features);
  },
};

function compare(door: Machine, systems: readonly string[], features: readonly string[]): Finding {
  const beyond = [
    ...door.systems.filter((system) => !systems.includes(system)),
    ...door.features.filter((feature) => !features.includes(feature)),
  ];
  if (beyond.length > 0)
    return failure(`the line offers ${beyond.join(', ')}, which guests do not serve`, MACHINES_FIX);
  const unused = systems.filter((system) => !door.systems.includes(system));
  return unused.length > 0
    ? warning(`guests also serve ${unused.join(', ')}, which the line does not offer`, MACHINES_FIX)
    : ok(`${door.systems.join(', ')}; features ${door.features.join(', ') || 'none'}`);
}

export const NIX_CHECKS: readonly Check[] = [
  nix,
  daemon,
  reaches('root-builders', "root's Nix reaches Drover", ({ platform }) => rootHome(platform)),
  reaches('user-builders', "this user's Nix reaches Drover", ({ uid, home }) =>
    uid === 0 ? undefined : home,
  ),
  offered,
];
