import { readdir, readFile } from 'node:fs/promises';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { startDrover } from '../support/drover.js';
import { nixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** The first build user of a Nix installation: uids from here on are the host's own. */
const HOST_BUILD_UID = 30_001;

/** The process, as this host sees it, whose command line has these words. */
async function findProcess(words: string): Promise<string | undefined> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.includes(words) && (await uidOf(pid)) !== 0) return pid;
  }
  return undefined;
}

async function uidOf(pid: string): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const uid = /^Uid:\s+(\d+)/m.exec(status)?.[1];
  return uid === undefined ? undefined : Number(uid);
}

describeE2e('build users', [], () => {
  test('a build on the host that ends does not kill those in guests', async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    const marker = `waits-for-ever-${host.id}`;
    const build = host.startBuild(
      host.derivation('blocked', `mkfifo f; echo begun; read -r ${marker.replaceAll('-', '_')} < f`),
    );
    await build.waitForOutput('begun');
    const pid = await waitUntil('the build in the guest', () => findProcess(marker.replaceAll('-', '_')));

    // Nix on the host does this when one of its own builds has ended: it kills every process of that user.
    await execa('setpriv', ['--reuid', String(HOST_BUILD_UID), '--clear-groups', 'sh', '-c', 'kill -9 -1'], {
      reject: false,
    });

    expect(await uidOf(pid)).toBeGreaterThan(1_000_000_000);
    expect((await drover.status()).builds).toHaveLength(1);
    build.signalGroup('SIGINT');
    await build.ended;
  });
});
