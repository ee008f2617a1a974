import { execFileSync } from 'node:child_process';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';

import type { Inheritance } from '../src/drivers/qemu/machine.js';
import { startVirtiofsd, type SharedDirectory } from '../src/drivers/qemu/virtiofsd.js';
import { ConsoleLog } from '../src/lib/console-log.js';
import type { Verdict } from './bars.js';
import { startMachine, type VmMachine } from './contenders/vm-machine.js';
import type { Host } from './host.js';
import { renderTable } from './report.js';
import { medianOf } from './samples.js';
import type { VmKind } from './vms.js';

const MEASURES = [
  'walk-cold',
  'walk-warm',
  'negatives-cold',
  'compile-cold',
  'compile-warm',
  'requests',
] as const;
const STACKS = ['raw', 'exact'] as const;
const ACTIONS = ['walk', 'negatives', 'compile'] as const;
type Measure = (typeof MEASURES)[number];
type Stack = (typeof STACKS)[number];

// cspell:disable
/** Headers that a program of some size includes, as far as this host has them. */
const HEADERS = `stdio stdlib string unistd errno fcntl signal time math ctype assert limits locale setjmp wchar wctype
  dirent pwd grp regex glob fnmatch getopt poll pthread sched semaphore spawn syslog termios utime dlfcn netdb ifaddrs
  arpa/inet netinet/in netinet/tcp net/if sys/types sys/stat sys/socket sys/un sys/time sys/wait sys/mman sys/ioctl
  sys/resource sys/select sys/uio sys/epoll sys/eventfd sys/timerfd sys/inotify sys/mount sys/prctl sys/statvfs
  sys/sysinfo sys/utsname linux/fuse linux/if_link linux/netlink linux/rtnetlink linux/perf_event linux/fs`;
// cspell:enable

export interface ExactStoreSamples {
  /** Seconds, or requests to the share below for one warm compile, in the order of the rounds. */
  readonly samples: Readonly<Record<Measure, Readonly<Record<Stack, readonly number[]>>>>;
  /** Memory of exact-store for each file that it knows. */
  readonly bytesPerFile: number;
}

/**
 * Measures a guest's view of the host's store through exact-store against the share itself, in one guest and in turns.
 * With two processors, the guest has one and the shares' servers the other.
 */
export async function measureExactStore(
  host: Host,
  kind: VmKind,
  rounds: number,
): Promise<ExactStoreSamples> {
  const tree = await host.add(await makeTree(host.dir));
  const compiler = await host.add(await makeCompiler(host.dir));
  const shares: SharedDirectory[] = [];
  let machine: VmMachine | undefined;
  try {
    for (const name of ['exact', 'raw']) shares.push(await share(host.dir, kind, name));
    machine = await boot(host.dir, kind, shares);
    return await measureIn(machine, [basename(tree), basename(compiler)], rounds);
  } finally {
    machine?.ssh.destroy();
    await machine?.qemu.kill();
    for (const { child } of shares) await child.kill();
  }
}

async function measureIn(
  { ssh }: VmMachine,
  paths: readonly string[],
  rounds: number,
): Promise<ExactStoreSamples> {
  const script = await readFile(new URL('../../../bench/exact-store.sh', import.meta.url), 'utf8');
  const run = async (action: string, stack: Stack): Promise<Map<string, number>> => {
    const { exitCode, stdout, stderr } = await ssh.exec(['sh', '-s', action, stack, ...paths], script);
    if (exitCode !== 0) throw new Error(`bench/exact-store.sh ${action} ${stack}: ${stderr}`);
    const words = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' '));
    return new Map(words.map(([name = '', value]) => [name, Number(value)]));
  };
  const memory = await run('setup', 'exact');
  const nothing = (): Record<Stack, number[]> => ({ raw: [], exact: [] });
  const samples = Object.fromEntries(MEASURES.map((measure) => [measure, nothing()])) as Record<
    Measure,
    Record<Stack, number[]>
  >;
  for (let round = 0; round < rounds; round++) {
    for (const action of ACTIONS) {
      for (const stack of round % 2 === 0 ? STACKS : STACKS.toReversed()) {
        const found = await run(action, stack);
        for (const measure of MEASURES) {
          const value = found.get(measure);
          if (value !== undefined) samples[measure][stack].push(value);
        }
      }
    }
    process.stderr.write(`exact store: round ${round + 1} of ${rounds}\n`);
  }
  return { samples, bytesPerFile: (memory.get('bytes') ?? NaN) / (memory.get('files') ?? NaN) };
}

async function share(dir: string, { programs }: VmKind, name: string): Promise<SharedDirectory> {
  if (programs.virtiofsd === undefined) throw new Error('the scenario exact-store needs virtiofsd');
  const program = join(dir, `virtiofsd-${name}`);
  const pinned = [...on(0), programs.virtiofsd].join(' ');
  await writeFile(program, `#!/bin/sh\nexec ${pinned} "$@"\n`, { mode: 0o755 });
  return await startVirtiofsd({
    program,
    setpriv: programs.setpriv,
    socket: join(dir, `${name}.sock`),
    directory: '/nix/store',
    consoleLog: new ConsoleLog(join(dir, `${name}.log`)),
    signal: AbortSignal.timeout(10_000),
  });
}

async function boot(dir: string, kind: VmKind, [exact, raw]: readonly SharedDirectory[]): Promise<VmMachine> {
  if (exact === undefined || raw === undefined) throw new Error('two shares are needed');
  const device = ['-device', 'vhost-user-fs-pci,chardev=raw,tag=raw'];
  return await startMachine(kind, {
    dir: join(dir, 'exact-store'),
    cores: 1,
    before: on(1),
    facts: { name: 'exact-store', share: 'virtiofs', store: 'exact' },
    store: (inherited: Inheritance) => inherited.socket(exact.connection),
    more: (inherited) => ['-chardev', `socket,id=raw,fd=${inherited.socket(raw.connection)}`, ...device],
  });
}

/** Words before a command, all of whose threads then run on one processor, if there are two. */
function on(processor: number): readonly string[] {
  return availableParallelism() > 1 ? ['taskset', '--cpu-list', String(processor)] : [];
}

/** 20,000 small files in 400 directories. */
async function makeTree(dir: string): Promise<string> {
  const root = join(dir, 'drover-bench-tree');
  for (let index = 0; index < 400; index++) {
    const directory = join(root, String(Math.floor(index / 20)), `directory-${index % 20}`);
    await mkdir(directory, { recursive: true });
    for (let file = 0; file < 50; file++) await writeFile(join(directory, `file-${file}.h`), `${file}\n`);
  }
  return root;
}

/** This host's C compiler proper, with its libraries, the headers of `unit.c`, and nothing else. */
async function makeCompiler(dir: string): Promise<string> {
  const root = join(dir, 'drover-bench-compiler');
  for (const name of ['bin', 'lib', 'include/0', 'include/1', 'include/2', 'include/3'])
    await mkdir(join(root, name), { recursive: true });
  const cc1 = run('cc', ['-print-prog-name=cc1']).trim();
  await copyFile(cc1, join(root, 'bin/cc1'));
  for (const [, path = ''] of run('ldd', [cc1]).matchAll(/(\/\S+) \(0x/g)) {
    const name = basename(path).startsWith('ld-linux') ? 'ld.so' : basename(path);
    await copyFile(path, join(root, 'lib', name));
  }
  const names = HEADERS.split(/\s+/).map(
    (name) => `#if __has_include(<${name}.h>)\n#include <${name}.h>\n#endif\n`,
  );
  const unit = join(root, 'unit.c');
  await writeFile(unit, `#define _GNU_SOURCE\n${names.join('')}int main(void) { return 0; }\n`);
  const searched = includeDirectories();
  for (const header of new Set(run('cc', ['-M', unit]).match(/\/\S+\.h/g))) {
    // The longest: one of them lies in another.
    const from = searched
      .filter((path) => header.startsWith(`${path}/`))
      .sort((a, b) => b.length - a.length)[0];
    if (from === undefined) continue;
    const to = join(root, 'include', String(searched.indexOf(from)), relative(from, header));
    await mkdir(dirname(to), { recursive: true });
    await copyFile(header, to);
  }
  return root;
}

function includeDirectories(): readonly string[] {
  const said = run('sh', ['-c', 'cc -E -v -xc /dev/null 2>&1']);
  const list =
    /search starts here:\n#include <\.\.\.> search starts here:\n([^]*)End of search list/.exec(said)?.[1] ??
    '';
  return list
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

function run(program: string, args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', env: { ...process.env, LANG: 'C' } });
}

export function renderExactStore({ samples }: ExactStoreSamples): string {
  const cell = (measure: Measure, stack: Stack): string => {
    const value = medianOf(samples[measure][stack]);
    return value === undefined ? '' : measure === 'requests' ? String(value) : `${value.toFixed(2)} s`;
  };
  return renderTable([
    ["the host's store in a VM, medians", ...STACKS],
    ...MEASURES.map((measure) => [measure, ...STACKS.map((stack) => cell(measure, stack))]),
  ]);
}

export function exactStoreVerdicts({ samples, bytesPerFile }: ExactStoreSamples): Verdict[] {
  const ratio = (measure: Measure, limit: number): Verdict => {
    const { raw, exact } = samples[measure];
    const measured = (medianOf(exact) ?? NaN) / (medianOf(raw) ?? NaN);
    const bar = `exact store, ${measure}: at most ${limit.toFixed(1)} × the raw share's time`;
    return { bar, measured: `${measured.toFixed(2)} ×`, met: measured <= limit };
  };
  const most = Math.max(...samples.requests.exact);
  return [
    ratio('walk-cold', 1),
    ratio('negatives-cold', 1),
    ratio('compile-warm', 0.3),
    {
      bar: 'exact store, a warm compile: at most 20 requests to the share',
      measured: String(most),
      met: most <= 20,
    },
    {
      bar: 'exact store: at most 512 bytes of memory for each known file',
      measured: `${bytesPerFile.toFixed(0)} B`,
      met: bytesPerFile <= 512,
    },
  ];
}
