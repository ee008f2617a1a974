import { readFile, realpath } from 'node:fs/promises';

import type { EtcFiles } from './namespace/etc.js';

/** Where systemd-resolved writes the resolvers that its own, on the host's loopback, asks. */
const RESOLVED_STUB = '/run/systemd/resolve/stub-resolv.conf';
const RESOLVED_UPSTREAM = '/run/systemd/resolve/resolv.conf';

/** `resolv.conf` for guests that do not reach the host's loopback, if the host has a better one than its own. */
export async function reachableResolvers(): Promise<EtcFiles> {
  const file = await realpath('/etc/resolv.conf').catch(() => '');
  return file === RESOLVED_STUB ? { 'resolv.conf': RESOLVED_UPSTREAM } : {};
}

/** A warning if guests reach no resolver of a `resolv.conf`: none of loopback, and no link-local one. */
export async function resolverWarning(file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const resolvers = Array.from(text.matchAll(/^\s*nameserver\s+(\S+)/gm), ([, address = '']) => address);
  if (resolvers.length === 0 || resolvers.some((address) => !/^(127\.|169\.254\.|::1$|fe80:)/i.test(address)))
    return [];
  return [
    `fixed-output builds cannot resolve names: guests do not reach the resolver ${resolvers.join(', ')} with guest.network outbound; set it to host, or name another resolver in /etc/resolv.conf`,
  ];
}
