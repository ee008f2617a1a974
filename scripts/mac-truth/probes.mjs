// The questions. Each probe returns what was seen, and whether it is as Drover needs it: `holds` is undefined for what
// is only of interest.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { descriptors, isAlive, sleepHost } from './host.mjs';
import { eventually, within } from './helper.mjs';

/** vz-helper's own bound: the next connection is answered with an error. */
const CONNECTIONS = 512;

/** One question through the share itself, which is only of interest, and through exact-store, whose answer is known. */
const bothViews = (name, verb, wanted, { raw, exact }) => [
  {
    name: `${name}, raw`,
    asks: raw,
    run: async ({ guest }) => ({ seen: await guest.command(`${verb} raw`) }),
  },
  {
    name: `${name}, exact`,
    asks: exact,
    run: async ({ guest }) => same(await guest.command(`${verb} exact`), wanted),
  },
];

/** Questions to one running guest, in this order. */
export const WHILE_IT_RUNS = [
  ...bothViews('lock', 'lock', 'absent', {
    raw: "a lock file of the host (0600) opened for writing: copied up from the share, or Nix's builds fail",
    exact: 'the same through exact-store: it must not be there',
  }),
  ...bothViews('case', 'case', 'absent', {
    raw: '`version` where the host has `VERSION`',
    exact: 'the same through exact-store: it must not be there',
  }),
  {
    name: 'names, exact',
    asks: 'only the registered paths',
    run: async ({ guest, names }) => {
      const registered = names.filter((name) => !name.endsWith('.lock')).sort();
      return same(await guest.command('names exact'), registered.join(' '));
    },
  },
  ...bothViews('copy-up', 'write', 'written', {
    raw: 'a new file in a directory of the share',
    exact: 'the same through exact-store',
  }),
  ...bothViews('attributes', 'attributes', '0:0 444', {
    raw: 'owner and mode of a file of the user who runs this',
    exact: 'the same through exact-store: root, and the mode of the store',
  }),
  {
    name: 'xattr, raw',
    asks: 'extended attributes: overlayfs takes "not supported", and fails with most others',
    run: async ({ guest }) => ({ seen: await guest.command('xattr share') }),
  },
  {
    name: 'hard link',
    asks: "inode number and count of a file before and after the host links it, as Nix's optimise does",
    run: async ({ guest, store }) => {
      const file = join(store, `${'a'.repeat(32)}-truth/VERSION`);
      const before = await guest.command('link share');
      linkSync(file, `${store}.link`);
      const after = await guest.command('link share');
      rmSync(`${store}.link`);
      return { seen: `${before} → ${after}` };
    },
  },
  ...['exact', 'raw'].map((view) => ({
    name: `descriptors, ${view}`,
    asks: "the host's descriptors while a guest reads every file once, and after it has forgotten them",
    run: async ({ guest, files }) => {
      const pids = guest.machines;
      const before = descriptors(pids);
      const begin = performance.now();
      const read = await guest.command(`read ${view}`);
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      const during = descriptors(pids);
      await guest.command('forget');
      const after = await eventually(10_000, () => {
        const now = descriptors(pids);
        return now < during || during === before ? now : undefined;
      });
      const seen = `${before} → ${during} → ${after ?? 'unchanged'} (${read} of ${files} bytes in ${seconds} s)`;
      const isRead = Number(read) === files;
      return { seen, holds: view === 'exact' ? isRead && during - before <= 20_000 : isRead };
    },
  })),
  {
    name: 'half-close',
    asks: "whether the end of the host's sending reaches the guest. Drover does not rely on it",
    run: async ({ guest }) => {
      const socket = await guest.connect(9);
      socket.end('12345');
      const answer = await Promise.race([
        once(socket, 'data').then(([bytes]) => bytes.toString().trim()),
        later(5_000),
      ]);
      socket.destroy();
      return { seen: answer === undefined ? 'not passed on' : `passed on: ${answer}` };
    },
  },
  {
    name: 'closed port',
    asks: 'a connection to a port without a listener: an error, soon enough to try again while a guest boots',
    run: async ({ guest }) => {
      const begin = performance.now();
      const error = await guest.connect(99).then(
        (socket) => void socket.destroy(),
        (reason) => reason.message,
      );
      const ms = Math.round(performance.now() - begin);
      return { seen: `${error ?? 'connected'} after ${ms} ms`, holds: error !== undefined && ms < 15_000 };
    },
  },
  {
    name: `${CONNECTIONS} connections`,
    asks: 'all at the same time, each answering; the next one is refused',
    run: async ({ guest }) => {
      const sockets = [];
      const open = async () => {
        // Again while the helper's own backlog is full.
        const socket = await eventually(60_000, async () => await guest.connect(7).catch(() => undefined));
        if (socket === undefined) return undefined;
        sockets.push(socket);
        socket.write('x');
        return await Promise.race([once(socket, 'data'), later(60_000)]);
      };
      const answers = await Promise.allSettled(Array.from({ length: CONNECTIONS }, open));
      const good = answers.filter(({ value }) => value !== undefined).length;
      const next = await guest.connect(7).then(
        (socket) => {
          sockets.push(socket);
          return 'accepted';
        },
        (reason) => reason.message,
      );
      for (const socket of sockets) socket.destroy();
      // Until the helper has seen their ends.
      await eventually(30_000, async () => await guest.command('names').catch(() => undefined));
      return { seen: `${good} answered; the next: ${next}`, holds: good === CONNECTIONS };
    },
  },
  {
    name: 'DHCP',
    asks: "a lease from macOS' bootpd, in seconds",
    run: async ({ guest }) => {
      const begin = performance.now();
      const seen = await guest.command('network');
      return { seen: `${seen} (${((performance.now() - begin) / 1000).toFixed(1)} s)` };
    },
  },
  {
    name: 'sleep',
    asks: 'notices of sleep and of waking, with --sleep',
    run: async ({ guest, canSleep }) => {
      if (!canSleep) return { seen: 'not asked' };
      sleepHost(guest.process.pid);
      const both = () => ['sleep', 'wake'].every((event) => guest.events.some((one) => one.event === event));
      const holds = (await eventually(180_000, both)) === true;
      return { seen: guest.events.map(({ event }) => event).join(', '), holds };
    },
  },
];

/** Questions that end a guest, each with one of its own. */
export const ENDS = [
  ...['panic', 'reset', 'poweroff'].map((word) => ({
    name: word,
    asks: { panic: 'a panic with panic=1', reset: 'a reboot', poweroff: 'a guest that powers off' }[word],
    run: async ({ guest }) => {
      const begin = performance.now();
      await guest.tell(`end ${word}`);
      const how = await eventually(30_000, () => {
        if (guest.boots() > 1) return 'reset in place: it has booted again';
        return guest.events.find(({ event }) => event === 'stopped' || event === 'crashed')?.event;
      });
      const seen = `${how ?? 'nothing'} after ${Math.round(performance.now() - begin)} ms`;
      return { seen, holds: word === 'poweroff' ? how === 'stopped' : how !== undefined };
    },
  })),
  {
    name: 'kill -9 of the helper',
    asks: 'the virtual machine must end with it',
    run: async ({ guest }) => await gone([guest.process.pid, ...guest.machines], guest.process.pid),
  },
];

/** A supervisor that is killed: its helper and the virtual machine must end. */
export const SUPERVISOR = {
  name: 'kill -9 of the supervisor',
  asks: 'the helper and the virtual machine must end with it',
  run: async (main, file) => {
    const supervisor = spawn(process.execPath, [main, '--supervise', file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      // It prints the processes that must end with it.
      const up = Promise.race(['data', 'close'].map(async (event) => await once(supervisor.stdout, event)));
      const [line = ''] = await within(120_000, 'the supervisor', up);
      const pids = line.toString().trim().split(' ');
      if (pids.length < 2) throw new Error('the guest of the supervisor did not come up');
      return await gone(pids, supervisor.pid);
    } finally {
      supervisor.kill('SIGKILL');
    }
  },
};

async function gone(pids, victim) {
  const begin = performance.now();
  process.kill(victim, 'SIGKILL');
  const left = () => pids.filter(isAlive);
  const holds = (await eventually(15_000, () => left().length === 0)) === true;
  const ms = Math.round(performance.now() - begin);
  return {
    seen: holds ? `${pids.length} processes ended after ${ms} ms` : `still there: ${left().join(' ')}`,
    holds,
  };
}

function same(seen, wanted) {
  return { seen, holds: seen === wanted };
}

async function later(ms) {
  await new Promise((resolve) => setTimeout(resolve, ms).unref());
}
