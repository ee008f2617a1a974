import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';

/** Serves one text to every client. @param address of the host */
export async function serveText(
  text: string,
  address = '127.0.0.1',
): Promise<{ url: string; requests: () => number } & AsyncDisposable> {
  let requests = 0;
  const server = createServer((_, response) => {
    requests += 1;
    response.end(text);
  });
  server.listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${address}:${port}/`,
    requests: () => requests,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** An address of this host that other machines reach it by. */
export function outerAddress(): string | undefined {
  // Those of a Machine go with it.
  const devices = Object.entries(networkInterfaces()).filter(([name]) => !/^dr\d+-/.test(name));
  const all = devices.flatMap(([, addresses]) => addresses ?? []);
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
}
