import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';

import { runDrover, startDrover, type Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const run = promisify(execFile);

describeE2e('a Drover that keeps an audit log and signs', [], () => {
  let dir: string;
  let drover: Drover;
  let host: NixHost;

  beforeAll(async () => {
    dir = await mkdtemp('/tmp/drover-audit-');
    const { x = '', d = '' } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
    const secret = Buffer.concat([Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')]);
    await writeFile(join(dir, 'key'), `drover-test-1:${secret.toString('base64')}`, { mode: 0o600 });
    drover = await startDrover({
      config: { audit: { file: join(dir, 'audit.jsonl') }, signing: { secretKeyFile: join(dir, 'key') } },
    });
    host = await nixHost({ drover });
  });

  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  test('can tell who built a path and that it is the same still, and the path bears its signature', async () => {
    const result = await host.build(host.derivation('audited', 'echo audited > $out'));
    succeeded(result);
    const [output = ''] = result.outputs;
    await drover.events.waitFor('build-finished');
    const { stdout } = await run('nix-store', ['-q', '--hash', output]);
    const records = (await readFile(join(dir, 'audit.jsonl'), 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; outputs?: { path: string; narHash: string }[] });
    const build = records.find(({ type }) => type === 'build');
    expect(build).toMatchObject({
      domain: 'uid:0',
      result: 'Built',
      guest: await drover.onlyGuest(),
      outputs: [{ path: output }],
    });
    const { stdout: hex } = await run('nix-hash', [
      ...['--type', 'sha256', '--to-base16', stdout.trim().replace('sha256:', '')],
    ]);
    expect(build?.outputs?.[0]?.narHash).toBe(hex.trim());
    const { stdout: info } = await run('nix', [
      ...['--extra-experimental-features', 'nix-command', 'path-info', '--sigs', output],
    ]);
    expect(info).toContain('drover-test-1:');
  });

  test('finds out when a line was changed', async () => {
    const file = join(dir, 'audit.jsonl');
    const verified = await runDrover(['audit', 'verify', '--config', drover.configFile]);
    expect(verified).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('intact') as unknown });
    const forged = join(dir, 'forged.jsonl');
    await writeFile(forged, (await readFile(file, 'utf8')).replace('uid:0', 'uid:7'));
    const found = await runDrover(['audit', 'verify', forged]);
    expect(found.exitCode).toBe(1);
    expect(found.stdout).toMatch(/BROKEN at .*forged\.jsonl:\d+: /);
  });
});
