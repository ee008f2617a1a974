import { failure, ok, skipped, warning, type Check, type DoctorContext, type Finding } from '../check.js';

/** A check that means something on macOS only. */
function onMac(id: string, title: string, run: (context: DoctorContext) => Promise<Finding>): Check {
  return {
    id,
    title,
    run: async (context) =>
      context.platform === 'darwin' ? await run(context) : skipped('matters on macOS only'),
  };
}

export const MAC_CHECKS: readonly Check[] = [
  onMac('rosetta', 'Rosetta translates x86_64-linux', async ({ run, config }) => {
    if (!config.guest.rosetta.enable) return skipped('guest.rosetta.enable is false');
    if (!config.guest.x86_64.includes('rosetta')) return skipped('guest.x86_64 lacks it');
    const { exitCode } = await run('/usr/bin/arch', ['-x86_64', '/usr/bin/true']);
    if (exitCode === 0) return ok('installed');
    const outcome = config.guest.x86_64.includes('qemu-user')
      ? 'x86_64-linux is emulated by QEMU, many times slower, if the guest image has that'
      : 'x86_64-linux is not served';
    return warning(`not installed: ${outcome}`, 'softwareupdate --install-rosetta');
  }),
  onMac('dhcp', "Guests can get an address from the Mac's DHCP server", async ({ run }) => {
    const { stdout } = await run('/bin/launchctl', ['print', 'system/com.apple.bootpd']);
    return stdout.includes('com.apple.bootpd')
      ? ok('bootpd is registered')
      : warning('launchd does not know bootpd', 'Fixed-output builds may fail; see docs/mac.md#network.');
  }),
  onMac('firewall', "The Mac's firewall lets guests out", async ({ run }) => {
    const tool = '/usr/libexec/ApplicationFirewall/socketfilterfw';
    const { stdout } = await run(tool, ['--getblockall']);
    return /enabled|on/i.test(stdout) && !/disabled|off/i.test(stdout)
      ? failure(
          'the firewall blocks all incoming connections, DHCP among them',
          'Turn off "Block all incoming connections".',
        )
      : ok('it does not block all incoming connections');
  }),
];
