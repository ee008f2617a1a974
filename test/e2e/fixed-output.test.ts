import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';

import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { outerAddress, serveText } from '../support/http.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

function download(host: NixHost, url: string, expected: string): string {
  const hash = createHash('sha256').update(expected).digest('hex');
  return host.derivation(
    'download',
    'wget -q -O $out $url',
    `url = "${url}"; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "${hash}";`,
  );
}

describeE2e('a fixed-output derivation with guest.network outbound, the default,', ['slirp4netns'], () => {
  test("reaches other machines, but not the host's loopback, link-local addresses or abstract sockets", async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover });
    await using local = await serveText('secret');
    const abstract = createServer().listen(`\0drover-test-${host.id}`);
    await once(abstract, 'listening');
    const port = new URL(local.url).port;
    const urls = [
      local.url,
      `http://10.0.2.2:${port}/`,
      `http://10.0.2.3:${port}/`,
      'http://169.254.169.254/',
    ];
    const tries = urls.map((url) => `wget -q -T 3 -O - ${url} && echo reached ${url}`).join('; ');
    const probe = host.derivation(
      'probe',
      `${tries}; echo "sockets: $(grep -c @ /proc/net/unix)"; exit 1`,
      `outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "${'a'.repeat(64)}";`,
    );
    const { stderr } = await host.build(probe);
    abstract.close();
    expect(stderr).toContain('sockets: 0');
    expect(stderr).not.toContain('secret');
    expect(stderr).not.toContain('reached');
    expect(local.requests()).toBe(0);

    const address = outerAddress();
    if (address === undefined) return; // a host without a network has no world to reach
    await using outer = await serveText(`for ${host.id}`, address);
    const { outputs } = succeeded(await host.build(download(host, outer.url, `for ${host.id}`)));
    expect(await readFile(outputs[0] ?? '', 'utf8')).toBe(`for ${host.id}`);
  });
});

describeE2e('a fixed-output derivation', [], () => {
  test('reaches a server on the host with guest.network host, and its hash is checked', async () => {
    await using drover = await startDrover({ config: { guest: { network: 'host' } } });
    await using host = await nixHost({ drover });
    await using server = await serveText(`for ${host.id}`);

    const { outputs } = succeeded(await host.build(download(host, server.url, `for ${host.id}`)));
    expect(await readFile(outputs[0] ?? '', 'utf8')).toBe(`for ${host.id}`);

    const wrong = await host.build(download(host, server.url, `not for ${host.id}`));
    expect(wrong.exitCode).not.toBe(0);
    expect(wrong.stderr).toMatch(/hash mismatch in fixed-output derivation/);
    expect(wrong.stderr).toMatch(/specified:.*sha256-[\s\S]*got:.*sha256-/);
    expect(server.requests()).toBe(2);
  });

  test('reaches nothing with guest.network none', async () => {
    await using drover = await startDrover({ config: { guest: { network: 'none' } } });
    await using host = await nixHost({ drover });
    await using server = await serveText(`for ${host.id}`);

    const { exitCode, stderr } = await host.build(download(host, server.url, `for ${host.id}`));
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/wget: can't connect to remote host/);
    expect(stderr).toMatch(/the guest g\d+ has no way out: .*no DHCP lease; see docs\/mac\.md#network/);
    expect(server.requests()).toBe(0);
  });

  test('other derivations reach nothing with guest.network host', async () => {
    await using drover = await startDrover({ config: { guest: { network: 'host' } } });
    await using host = await nixHost({ drover });
    await using server = await serveText(`for ${host.id}`);

    const { exitCode } = await host.build(host.derivation('download', `wget -q -O $out ${server.url}`));
    expect(exitCode).not.toBe(0);
    expect(server.requests()).toBe(0);
  });
});
