import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { NIX_DIRS, nixHost, type NixHost, type NixResult, type NixVersion } from './nix.js';

/**
 * A Nix host whose builder is not Drover but Nix's own nix-daemon, with a store of its own. To compare with: Nix's
 * client does not treat remote builds as it treats local ones, and none of that is Drover's doing.
 */
export async function plainRemoteHost(
  version: NixVersion,
): Promise<{ readonly host: NixHost } & AsyncDisposable> {
  const dir = await mkdtemp('/tmp/plain-');
  const program = join(dir, 'builder');
  await writeFile(
    program,
    `#!/bin/sh
export NIX_REMOTE='${dir}/root' NIX_CONF_DIR='${dir}' HOME='${dir}'
export NIX_CONFIG='build-users-group =
experimental-features = nix-command ca-derivations
sandbox-paths = /bin/sh=/bin/busybox
substituters ='
exec ${NIX_DIRS[version]}/nix-daemon --stdio
`,
    { mode: 0o755 },
  );
  const host = await nixHost({
    version,
    nixConf: {
      'max-jobs': '0',
      system: 'aarch64-darwin',
      builders: `ssh-ng://localhost?remote-program=${program} x86_64-linux`,
    },
  });
  return {
    host,
    [Symbol.asyncDispose]: async () => {
      await host[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Lines that only one of two builders causes, or that another user of the store does. */
const INCIDENTAL = [
  /^copying /,
  /^drover: build b\d+ in guest g\d+$/,
  /^drover: waiting for room: /,
  /SQLite database '.*' is busy/,
];

/**
 * A client's output without the differences between builders: their names, uploads, and places of their
 * sandboxes.
 */
export function comparableOutput({ stderr }: NixResult): string[] {
  return stderr
    .replaceAll(/ssh-ng:\/\/[^' ]+/g, 'BUILDER')
    .replaceAll(/["'][^"' ]*\/nix\/store\/[^/"']*\.drv\.chroot(\/root)?\//g, 'CHROOT/')
    .split('\n')
    .filter((line) => !INCIDENTAL.some((pattern) => pattern.test(line)));
}
