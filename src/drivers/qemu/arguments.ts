import type { Architecture } from '../vm/image.js';

export type Accelerator = 'kvm' | 'hvf' | 'tcg';

/** Everything that QEMU has to know about a machine. Sizes in bytes. */
export interface MachineSpec {
  readonly architecture: Architecture;
  readonly accelerator: Accelerator;
  /** Descriptor of /dev/kvm; undefined: QEMU opens it itself. */
  readonly kvm: number | undefined;
  /** Whether QEMU is to give up system calls that it does not need. */
  readonly seccomp: boolean;
  readonly cores: number;
  /** Whether emulated cores may run at the same time, each in a thread of the host's. */
  readonly parallelTcg: boolean;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly initrd: string;
  readonly commandLine: string;
}

/** Additions of a guest to a bare machine: descriptors that QEMU inherits. */
export interface GuestMachineSpec extends MachineSpec {
  /** Name that `ps` shows. */
  readonly name: string;
  readonly configDisk: number;
  readonly scratchDisk: number;
  readonly sshPort: number;
  /** A connection to virtiofsd; undefined: the host's store is not shared. */
  readonly store: number | undefined;
  /** Likewise, for a directory of the user. */
  readonly share?: number | undefined;
  readonly network: 'host' | 'outbound' | 'none';
}

/**
 * Machine types and CPUs, chosen for the time from QEMU's start to the guest's sshd; docs/drivers.md has the
 * figures.
 * - x86_64: q35. microvm is no faster with one to five PCI devices, and in a few of a hundred boots its
 *   guests hang while they calibrate the TSC. Under TCG a CPU with few features is faster to emulate than the
 *   default; cmpxchg16b is removed, since QEMU 7.2 gets its flags wrong, which breaks newer kernels.
 * - aarch64: virt with a GICv3. Under TCG cortex-a72: it lacks pointer authentication, which is slow to
 *   emulate with `max`.
 */
const MACHINES: Readonly<Record<Architecture, { machine: string; tcgCpu: string; console: string }>> = {
  x86_64: { machine: 'q35', tcgCpu: 'Nehalem-v1,-cx16', console: 'ttyS0' },
  aarch64: { machine: 'virt,gic-version=3', tcgCpu: 'cortex-a72', console: 'ttyAMA0' },
};

/**
 * Work that an emulated kernel can skip: there is no speculation to guard against, and its timers need no
 * check.
 */
const TCG_COMMAND_LINE: Readonly<Record<Architecture, string>> = {
  x86_64: 'mitigations=off nokaslr no_timer_check tsc=reliable',
  aarch64: 'mitigations=off nokaslr',
};

/** No other programs, no other users, no scheduling, no obsolete calls: a running QEMU needs none of them. */
const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

/** The QEMU program for an architecture. */
export function qemuProgram(architecture: Architecture): string {
  return `qemu-system-${architecture}`;
}

/** A machine that has nothing but a kernel, memory and a console on standard output. */
export function bareMachineArguments(spec: MachineSpec): string[] {
  const { machine, tcgCpu, console } = MACHINES[spec.architecture];
  const tcg = spec.accelerator === 'tcg';
  const commandLine = [
    `console=${console}`,
    ...(tcg ? [TCG_COMMAND_LINE[spec.architecture]] : []),
    // Last: it may end in `--` and arguments for the first process.
    spec.commandLine,
  ].join(' ');
  const device = spec.kvm === undefined ? '' : `,device=/dev/fdset/${spec.kvm}`;
  return [
    ...(spec.seccomp ? ['-sandbox', SANDBOX] : []),
    ...(spec.kvm === undefined ? [] : inherit(spec.kvm)),
    ...['-accel', tcg ? `tcg,thread=${spec.parallelTcg ? 'multi' : 'single'}` : spec.accelerator + device],
    ...['-machine', machine, '-cpu', tcg ? tcgCpu : 'host'],
    ...['-smp', String(spec.cores), '-m', `${spec.memoryBytes / 1024 ** 2}M`],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-kernel', spec.kernel, '-initrd', spec.initrd, '-append', commandLine],
  ];
}

/** A guest: the bare machine, with the devices of the image contract. */
export function guestMachineArguments(spec: GuestMachineSpec): string[] {
  return [
    ...['-name', escape(spec.name)],
    ...bareMachineArguments(spec),
    ...['-device', 'virtio-rng-pci'],
    ...disk('config', spec.configDisk, { 'read-only': true }),
    // Nothing on it outlives the guest, so nothing of it must reach the disk at any time.
    ...disk('scratch', spec.scratchDisk, { discard: 'unmap', cache: { 'no-flush': true } }),
    ...['-device', 'virtio-serial-pci'],
    ...['-chardev', `socket,id=ssh,fd=${spec.sshPort}`],
    ...['-device', 'virtserialport,chardev=ssh,name=drover.ssh'],
    ...sharedDirectories(spec),
    ...(spec.network === 'none'
      ? []
      : ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile=']),
  ];
}

/** A host's disk that is full is an I/O error for the guest, instead of a stop of the whole guest. */
function disk(name: string, descriptor: number, options: object): string[] {
  const node = {
    driver: 'file',
    'node-name': name,
    filename: `/dev/fdset/${descriptor}`,
    aio: 'threads',
    ...options,
  };
  return [
    ...inherit(descriptor),
    ...['-blockdev', JSON.stringify(node)],
    ...['-device', `virtio-blk-pci,drive=${name},serial=drover-${name},werror=report`],
  ];
}

/** Gives a descriptor the name `/dev/fdset/<number>`. */
function inherit(descriptor: number): string[] {
  return ['-add-fd', `fd=${descriptor},set=${descriptor}`];
}

/** virtiofsd reads and writes the guest's memory itself, so it has to be a file that both map. */
function sharedDirectories({ store, share, memoryBytes }: GuestMachineSpec): string[] {
  const connections = [
    ['store', 'nix-store', store],
    ['share', 'share', share],
  ] as const;
  const devices = connections.flatMap(([id, tag, connection]) =>
    connection === undefined
      ? []
      : [
          ...['-chardev', `socket,id=${id},fd=${connection}`],
          ...['-device', `vhost-user-fs-pci,chardev=${id},tag=${tag}`],
        ],
  );
  if (devices.length === 0) return [];
  return [
    ...['-object', `memory-backend-memfd,id=memory,size=${memoryBytes},share=on`],
    ...['-machine', 'memory-backend=memory'],
    ...devices,
  ];
}

/** A value in a QEMU option: a comma is doubled. */
function escape(value: string): string {
  return value.replaceAll(',', ',,');
}
