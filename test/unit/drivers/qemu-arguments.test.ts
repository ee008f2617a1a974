import { describe, expect, test } from '@jest/globals';

import {
  bareMachineArguments,
  guestMachineArguments,
  type GuestMachineSpec,
} from '../../../src/drivers/qemu/arguments.js';

const SPEC: GuestMachineSpec = {
  name: '/state/guests/g1',
  architecture: 'x86_64',
  accelerator: 'kvm',
  kvm: undefined,
  seccomp: true,
  cores: 4,
  parallelTcg: true,
  memoryBytes: 2 * 1024 ** 3,
  kernel: '/dev/fd/8',
  initrd: '/dev/fd/9',
  commandLine: 'quiet',
  configDisk: 3,
  scratchDisk: 4,
  sshPort: 5,
  store: 7,
  network: 'none',
};

/** The values of an option, in order. */
function valuesOf(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] ?? ''] : []));
}

describe('the arguments of QEMU', () => {
  test.each([
    ['x86_64', 'kvm', 'kvm', 'q35', 'host', 'console=ttyS0 quiet'],
    ['x86_64', 'hvf', 'hvf', 'q35', 'host', 'console=ttyS0 quiet'],
    ['aarch64', 'kvm', 'kvm', 'virt,gic-version=3', 'host', 'console=ttyAMA0 quiet'],
  ] as const)('%s under %s', (architecture, accelerator, accel, machine, cpu, append) => {
    const args = bareMachineArguments({ ...SPEC, architecture, accelerator });
    expect(valuesOf(args, '-accel')).toEqual([accel]);
    expect(valuesOf(args, '-machine')).toEqual([machine]);
    expect(valuesOf(args, '-cpu')).toEqual([cpu]);
    expect(valuesOf(args, '-append')).toEqual([append]);
    expect(valuesOf(args, '-smp')).toEqual(['4']);
    expect(valuesOf(args, '-m')).toEqual(['2048M']);
  });

  test.each([
    ['x86_64', 'Nehalem-v1,-cx16', /mitigations=off .*tsc=reliable quiet$/],
    ['aarch64', 'cortex-a72', /mitigations=off nokaslr quiet$/],
  ] as const)(
    '%s emulated: a CPU that is fast to emulate, a kernel that guards nothing',
    (architecture, cpu, append) => {
      const args = bareMachineArguments({ ...SPEC, architecture, accelerator: 'tcg' });
      expect(valuesOf(args, '-accel')).toEqual(['tcg,thread=multi']);
      expect(valuesOf(args, '-cpu')).toEqual([cpu]);
      expect(valuesOf(args, '-append')[0]).toMatch(append);
    },
  );

  test('an old QEMU runs emulated cores in turns', () => {
    const args = bareMachineArguments({ ...SPEC, accelerator: 'tcg', parallelTcg: false });
    expect(valuesOf(args, '-accel')).toEqual(['tcg,thread=single']);
  });

  test('a guest listens at no port and no address', () => {
    const args = guestMachineArguments({ ...SPEC, network: 'host' }).join('\n');
    expect(args).not.toMatch(/hostfwd|tcp:|vnc|spice|telnet/);
    expect(valuesOf(guestMachineArguments({ ...SPEC, network: 'host' }), '-netdev')).toEqual(['user,id=net']);
  });

  test('without a network there is no network device', () => {
    expect(guestMachineArguments(SPEC).join(' ')).not.toContain('virtio-net');
  });

  test('the store is shared through memory of which both sides have a part, or not at all', () => {
    expect(guestMachineArguments(SPEC)).toContain('memory-backend-memfd,id=memory,size=2147483648,share=on');
    const args = guestMachineArguments({ ...SPEC, store: undefined }).join(' ');
    expect(args).not.toMatch(/memfd|vhost-user/);
  });

  test('what belongs to a guest has no path: it is inherited', () => {
    const args = guestMachineArguments(SPEC);
    expect(valuesOf(args, '-add-fd')).toEqual(['fd=3,set=3', 'fd=4,set=4']);
    expect(valuesOf(args, '-blockdev').map((value) => JSON.parse(value) as unknown)).toMatchObject([
      { 'node-name': 'config', filename: '/dev/fdset/3', 'read-only': true },
      { 'node-name': 'scratch', filename: '/dev/fdset/4' },
    ]);
    expect(valuesOf(args, '-chardev')).toEqual([
      'stdio,id=console,signal=off',
      'socket,id=ssh,fd=5',
      'socket,id=store,fd=7',
    ]);
  });

  test('/dev/kvm is inherited where QEMU can do that', () => {
    expect(valuesOf(bareMachineArguments({ ...SPEC, kvm: 10 }), '-accel')).toEqual([
      'kvm,device=/dev/fdset/10',
    ]);
  });

  test('system calls are given up where that is possible', () => {
    expect(valuesOf(guestMachineArguments(SPEC), '-sandbox')[0]).toMatch(/^on,.*spawn=deny/);
    expect(guestMachineArguments({ ...SPEC, seccomp: false })).not.toContain('-sandbox');
  });

  test('a comma in a path does not end an option', () => {
    expect(valuesOf(guestMachineArguments({ ...SPEC, name: '/a,b/g1' }), '-name')).toEqual(['/a,,b/g1']);
  });
});
