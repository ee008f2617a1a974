import { mkdtemp, readFile, rm } from 'node:fs/promises';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import type { Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { makeSystemdImage } from '../support/systemd-image.js';
import { lossOf, ROOT_BUILDS, startVmDrover } from '../support/vms.js';

/** systemd, emulated, takes half a minute to start, and longer where other tests do the same. */
const DEADLINE_MS = 1_200_000;

describeE2e(
  "the NixOS guest's units, under Debian's systemd",
  ['vms', 'modern-nix', 'nixos-units', 'e2fsprogs'],
  () => {
    let directory = '';
    let drover: Drover;
    let host: NixHost;
    let image: Awaited<ReturnType<typeof makeSystemdImage>>;

    beforeAll(async () => {
      directory = await mkdtemp('/tmp/units-');
      image = await makeSystemdImage(directory);
      drover = await startVmDrover({
        // Debian has no exact-store: the unit then binds the share to its place.
        guest: { ...ROOT_BUILDS, image: image.manifest, store: 'raw' },
        pool: { bootTimeout: '500s', maxGuests: 1 },
      });
      host = await nixHost({ drover, deadlineMs: DEADLINE_MS });
    }, DEADLINE_MS);
    afterAll(async () => {
      await host[Symbol.asyncDispose]();
      await drover[Symbol.asyncDispose]();
      await image.remove();
      await rm(directory, { recursive: true, force: true });
    });

    /** Runs shell commands as root of a guest. @returns what they printed */
    async function asRoot(name: string, commands: string): Promise<string> {
      const script = `export PATH=/usr/bin:/usr/sbin; { ${commands}; } > $out 2>&1`;
      const client = host.startBuild(host.derivation(name, script, '__noChroot = true;'));
      const { stdout } = succeeded(await client.ended);
      return await readFile(stdout.trim(), 'utf8');
    }

    test(
      'bring up a guest that builds',
      async () => {
        const input = host.derivation('input', 'echo from the guest > $out');
        const client = host.startBuild(
          host.derivation('output', 'read -r line < $input; echo "$line" > $out', `input = ${input};`),
        );
        const { stdout } = succeeded(await client.ended);
        expect(await readFile(stdout.trim(), 'utf8')).toBe('from the guest\n');
        expect((await drover.status()).totals).toMatchObject({ failedBuilds: 0, copiedPaths: 0 });
      },
      DEADLINE_MS,
    );

    test(
      'with everything that is written on the scratch disk, and the identity that it was given',
      async () => {
        const mounts = await asRoot('mounts', 'findmnt --raw --noheadings --output TARGET,FSTYPE,SOURCE');
        const disk = /^\/nix ext4 (\S+)$/m.exec(mounts)?.[1] ?? '';
        expect(mounts).toMatch(/^\/ tmpfs /m);
        expect(mounts).toMatch(/^\/nix\/\.host virtiofs nix-store$/m);
        expect(mounts).toMatch(/^\/nix\/store overlay overlay$/m);
        expect(mounts).toContain(`/build ext4 ${disk}[/.scratch/build]\n`);
        expect(mounts).toContain(`/tmp ext4 ${disk}[/.scratch/tmp]\n`);
        const [guest] = (await drover.status()).guests;
        expect(
          await asRoot('name', 'cat /proc/sys/kernel/hostname; stat -c %a /run/drover /run/drover/host_key'),
        ).toBe(`${guest?.id ?? ''}\n700\n600\n`);
      },
      DEADLINE_MS,
    );

    test(
      'with its own system registered, its sockets listening, and nothing failed',
      async () => {
        expect(await asRoot('valid', `nix-store --check-validity ${image.system} && echo valid`)).toBe(
          'valid\n',
        );
        const sockets = await asRoot('sockets', 'systemctl list-sockets --no-legend');
        expect(sockets).toMatch(/^vsock::22 +drover-ssh\.socket/m);
        expect(sockets).toMatch(/^vsock::23 +drover-daemon\.socket +drover-daemon\.service/m);
        // The network is one of Debian's, which has no part in this.
        const units = '"drover-[!n]*" "nix-*"';
        expect(await asRoot('failed', `systemctl list-units --failed --no-legend --plain ${units}`)).toBe('');
      },
      DEADLINE_MS,
    );

    test(
      'with sshd and nix-daemon at the other end of its vsock ports',
      async () => {
        const client = `
        my ($port, $greeting) = @ARGV;
        socket(my $vsock, 40, 1, 0) or die "$port: $!\\n";
        connect($vsock, pack("SSLLx4", 40, 0, $port, 1)) or die "$port: $!\\n";
        syswrite($vsock, pack("a8", $greeting)) if $greeting;
        sysread($vsock, my $answer, 8) or die "$port: nothing\\n";
        print substr($answer, 0, 4), "\\n";`;
        // Not as a build, which may not have such sockets. The loopback's module is for this test.
        const ports = await asRoot(
          'ports',
          `printf '${client.replaceAll('\n', ' ')}' > /tmp/client.pl
         systemd-run --quiet -p Type=oneshot sh -c '
           exec > /tmp/ports 2>&1
           export LC_ALL=C
           modprobe vsock_loopback
           perl /tmp/client.pl 22 ""
           perl /tmp/client.pl 23 cxin' || true
         cat /tmp/ports`,
        );
        expect(ports).toBe('SSH-\noixd\n');
      },
      DEADLINE_MS,
    );

    test(
      'lets no build open a vsock socket',
      async () => {
        const refused = await asRoot('vsock', '/usr/lib/systemd/systemd-ssh-proxy vsock/1 23 || true');
        expect(refused).toMatch(/Address family not supported/);
      },
      DEADLINE_MS,
    );

    test(
      'end the guest with its nix-daemon, and say so',
      async () => {
        const victim = (await drover.status()).guests[0]?.id ?? '';
        const script = `export PATH=/usr/bin
        read -r name < /proc/sys/kernel/hostname
        [ $name != ${victim} ] || { kill -9 $(systemctl show -p MainPID --value nix-daemon); sleep 86399; }
        echo survived > $out`;
        const { stdout, stderr } = succeeded(
          await host.startBuild(host.derivation('victim', script, '__noChroot = true;')).ended,
        );
        expect(await readFile(stdout.trim(), 'utf8')).toBe('survived\n');
        expect(stderr).toMatch(new RegExp(`guest ${victim} (was lost|ended)`));
        expect(await lossOf(drover, victim)).toContain('drover: nix-daemon has ended: signal (killed KILL)');
      },
      DEADLINE_MS,
    );
  },
);
