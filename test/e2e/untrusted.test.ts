import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Duplex } from 'node:stream';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { SSH_ALIAS } from '../../src/cli/machine-formats.js';
import { WorkerClient } from '../../src/daemon/worker-client.js';
import { encodeFrame, encodeFrameEnd } from '../../src/protocol/framed.js';
import { encodeBuildDerivation, encodeSetOptions } from '../../src/protocol/operations.js';
import { decodeBuildDerivationResponse } from '../../src/protocol/responses.js';
import { parseStorePath, type StorePath } from '../../src/protocol/store-path.js';
import { encodeAddToStoreNar } from '../../src/protocol/data-requests.js';
import { LATEST_VERSION } from '../../src/protocol/version.js';
import { startDrover, type Drover } from '../support/drover.js';
import { outcome } from '../support/front-bench.js';
import { narFacts, narOf } from '../support/nar.js';
import { NIX_DIRS, nixHost, succeeded, withSshConfig, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { pathInfo } from '../support/scripted-daemon.js';

/** A path in the store that nothing has. */
function madeUp(host: NixHost, name: string): StorePath {
  const digits = host.id.replaceAll('e', '0').padEnd(32, '1');
  return parseStorePath(`/nix/store/${digits}-e2e-${host.id}-${name}`);
}

/** A client of the ssh door that speaks the protocol by itself. */
async function attacker(drover: Drover, dir: string): Promise<WorkerClient> {
  const config = join(dir, 'ssh_config');
  await writeFile(config, await drover.sshConfig());
  const child = spawn('ssh', ['-F', config, '-i', drover.identity, SSH_ALIAS, 'nix-daemon', '--stdio'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  stream.once('close', () => child.kill());
  return await WorkerClient.connect(stream, LATEST_VERSION, 'The front');
}

async function buildAs(
  client: WorkerClient,
  drvPath: StorePath,
  output: StorePath,
  script: string,
): Promise<string> {
  const request = encodeBuildDerivation({
    drvPath,
    mode: 'normal',
    derivation: {
      outputs: new Map([['out', { path: output, hashAlgorithm: '', hash: '' }]]),
      inputSources: [],
      platform: 'x86_64-linux',
      builder: '/bin/sh',
      args: ['-c', script],
      env: new Map([['out', output]]),
    },
  });
  await client.channel.write(request);
  const refused = await outcome(client.channel);
  if (refused !== undefined) return refused;
  return (await client.channel.run(decodeBuildDerivationResponse(client.version))).status;
}

async function fileOf(client: WorkerClient, path: StorePath): Promise<string> {
  const [info] = await client.queryPathInfos([path]);
  if (info === undefined) return 'not valid';
  const parts: Uint8Array[] = [];
  for await (const part of client.narFromPath(path, info)) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString('latin1');
}

describeE2e('an ssh client that is not trusted', [], () => {
  let dir = '';
  let drover: Drover;
  beforeAll(async () => {
    dir = await mkdtemp('/tmp/un-');
    drover = await startDrover({ config: { pool: { maxGuests: 3 } } });
  });
  afterAll(async () => {
    await drover[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  test("builds under another derivation's output path, and only its own domain sees that", async () => {
    await using host = await nixHost({ drover });
    const expression = host.derivation('victim', 'echo GENUINE > $out');
    const drv = succeeded(await host.run('nix-instantiate', ['-E', expression])).stdout.trim();
    const output = parseStorePath(
      succeeded(await host.run('nix-store', ['-q', '--outputs', drv])).stdout.trim(),
    );
    await using client = await attacker(drover, dir);
    expect(await buildAs(client, madeUp(host, 'other.drv'), output, 'echo FORGED > $out')).toBe('Built');
    expect(await fileOf(client, output)).toContain('FORGED');
    const built = succeeded(await host.build(expression));
    expect(built.outputs).toEqual([output]);
    expect(await readFile(output, 'utf8')).toBe('GENUINE\n');
  });

  test('uploads a false input, and neither the host nor another domain has it', async () => {
    await using host = await nixHost({ drover });
    const path = madeUp(host, 'input');
    const nar = narOf(Buffer.from('FORGED'));
    await using client = await attacker(drover, dir);
    const info = pathInfo(path, narFacts(nar));
    await client.channel.write(encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }));
    await client.channel.write(Buffer.concat([encodeFrame(nar), encodeFrameEnd()]));
    expect(await outcome(client.channel)).toBeUndefined();
    expect(await client.queryValidPaths([path])).toEqual([path]);
    const [store = ''] = (await drover.machines('socket')).split(/\s+/);
    // A session of the other domain, in a guest.
    succeeded(await host.build(host.derivation('innocent', 'echo > $out')));
    for (const args of [[], ['--store', store]]) {
      const found = await host.run('nix-store', [...args, '--check-validity', path]);
      expect(found.stderr).toContain('is not valid');
    }
  });

  test('cannot leave the sandbox by its settings', async () => {
    await using host = await nixHost({ drover });
    await using client = await attacker(drover, dir);
    await client.setOptions([
      encodeSetOptions({
        ...{ keepFailed: false, keepGoing: false, tryFallback: false, verbosity: 3, maxBuildJobs: 1 },
        ...{ maxSilentTime: 0, verboseBuild: true, buildCores: 0, useSubstitutes: false },
        overrides: new Map([
          ['sandbox', 'false'],
          ['build-users-group', ''],
        ]),
      }),
    ]);
    const output = madeUp(host, 'where');
    const script = 'if [ -e /nix/var/nix ]; then echo OUTSIDE; else echo INSIDE; fi > $out';
    expect(await buildAs(client, madeUp(host, 'where.drv'), output, script)).toBe('Built');
    expect(await fileOf(client, output)).toContain('INSIDE');
  });
});

describeE2e('where guests are shared, an ssh client that is not trusted', ['modern-nix'], () => {
  let dir = '';
  let key = '';
  let drover: Drover;
  beforeAll(async () => {
    dir = await mkdtemp('/tmp/un-');
    key = join(dir, 'key');
    await execa('nix-store', ['--generate-binary-cache-key', 'e2e-1', key, `${key}.pub`]);
    drover = await startDrover({
      nix: NIX_DIRS.modern,
      config: { pool: { isolation: 'shared' } },
      ssh: { trustedPublicKeys: [(await readFile(`${key}.pub`, 'utf8')).trim()] },
    });
  });
  afterAll(async () => {
    await drover[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  test('builds with a Nix that sends the closure of the derivation, and with no other', async () => {
    await using modern = await nixHost({ drover, door: 'ssh', version: 'modern' });
    const input = modern.derivation('shared-input', 'echo input > $out');
    const built = succeeded(
      await modern.build(modern.derivation('shared', 'cat $input > $out', `input = ${input};`)),
    );
    expect(await readFile(built.outputs[0] ?? '', 'utf8')).toBe('input\n');
    await using debian = await nixHost({ drover, door: 'ssh' });
    const refused = await debian.build(debian.derivation('forged', 'echo > $out'));
    expect(refused.stderr).toContain('you are not privileged to build input-addressed derivations');
  });

  test('uploads what a key of doors.ssh.trustedPublicKeys has signed, and nothing unproven', async () => {
    await using host = await nixHost({ drover, version: 'modern' });
    await using remote = await nixHost({ drover, door: 'ssh', version: 'modern' });
    const [output = ''] = succeeded(await host.build(host.derivation('output', 'echo > $out'))).outputs;
    const elsewhere = `local?root=${dir}/elsewhere`;
    succeeded(await host.run('nix', ['copy', '--no-check-sigs', '--to', elsewhere, output]));
    await host.deletePaths(output);
    const [uri = ''] = (await drover.machines('ssh')).split(/\s+/);
    const store = withSshConfig(uri, remote.dir);
    const copy = ['copy', '--no-check-sigs', '--from', elsewhere, '--to', store, output];
    const refused = await remote.run('nix', copy);
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr).toContain('is neither content-addressed nor signed by a trusted key');
    succeeded(await host.run('nix', ['store', 'sign', '--store', elsewhere, '--key-file', key, output]));
    succeeded(await remote.run('nix', copy));
  });
});
