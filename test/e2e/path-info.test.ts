import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { WorkerClient } from '../../src/daemon/worker-client.js';
import { hostStore } from '../../src/host-store/host-store.js';
import { spawnStream } from '../../src/lib/process.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import { LATEST_VERSION } from '../../src/protocol/version.js';
import { startDrover } from '../support/drover.js';
import { guestInit } from '../support/guests.js';
import { NIX_DIRS, nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

/** Writes the structured attributes into the output, with nothing but the shell. */
const DUMP = `
  read -r json < .attrs.json || :
  rest=\${json#*'"outputs":{"out":"'}
  printf %s "$json" > "\${rest%%'"'*}"`;

/** The graph that a build sees of a path. */
async function graphOf(path: string, host: NixHost): Promise<unknown> {
  const attributes = `__structuredAttrs = true; exportReferencesGraph.graph = [ (builtins.storePath ${path}) ];`;
  const { outputs } = succeeded(await host.build(host.derivation('graph', DUMP, attributes)));
  return (JSON.parse(await readFile(outputs[0] ?? '', 'utf8')) as { graph: unknown }).graph;
}

/** Makes a path that refers to a signed source, and is signed itself. */
async function signedClosure(local: NixHost): Promise<{ source: string; built: string }> {
  const file = await local.writeFile(`${local.id}-source`, local.id);
  const source = succeeded(await local.run('nix-store', ['--add', file])).stdout.trim();
  const script = `echo $source > $out`;
  const expression = local.derivation('built', script, `source = builtins.storePath ${source};`);
  const { outputs } = succeeded(await local.build(expression));
  const built = outputs[0] ?? '';
  const [secret, open] = [join(local.dir, 'secret'), join(local.dir, 'public')];
  succeeded(await local.run('nix-store', ['--generate-binary-cache-key', 'test-1', secret, open]));
  succeeded(await local.run('nix', ['store', 'sign', '-k', secret, '-r', built]));
  return { source, built };
}

describeE2e('what a guest knows about a shared path', ['modern-nix'], () => {
  test.each(['debian', 'modern'] as const)('is all that the host knows: %s Nix', async (version) => {
    await using drover = await startDrover({ nix: NIX_DIRS[version] });
    await using local = await nixHost({ version });
    await using host = await nixHost({ version, drover });
    const { source, built } = await signedClosure(local);
    expect(await graphOf(built, host)).toEqual(await graphOf(built, local));

    const [guest] = (await drover.status()).guests;
    const init = await guestInit(drover.stateDir, guest?.id ?? '');
    const enter = [
      '--target',
      String(init),
      '--user',
      '--mount',
      '--pid',
      '--',
      '/usr/bin/nix-daemon',
      '--stdio',
    ];
    const guestDaemon = await spawnStream('nsenter', enter, { PATH: '/usr/bin:/bin', HOME: '/root' });
    await using theirs = await WorkerClient.connect(guestDaemon, LATEST_VERSION, "The guest's nix-daemon");
    const env = { ...process.env, PATH: `${NIX_DIRS[version]}:${process.env['PATH'] ?? ''}` };
    const store = hostStore(env, join(drover.stateDir, 'asked'));
    await using ours = await store.connect();
    const paths = [source, built] as StorePath[];
    const infos = await ours.queryPathInfos(paths);
    expect(infos.map((info) => info?.signatures.length)).toEqual([1, 1]);
    expect(infos.map((info) => info?.ultimate)).toContain(true);
    expect(infos[0]?.contentAddress).toBeDefined();
    expect(await theirs.queryPathInfos(paths)).toEqual(infos);
    await store.close();
  });
});
