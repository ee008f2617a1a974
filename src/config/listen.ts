import { isIPv4, isIPv6 } from 'node:net';

import { showValue } from './errors.js';

/** Where a TCP server listens. `host` has no brackets; `port` 0 means any free port. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Labels of letters, digits and `-`. The last is not a number, so that a mistyped IPv4 address is rejected. */
const HOST_NAME =
  /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?![0-9]+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/** `host:port` or `[IPv6]:port`, with a port from 0 (any free one) to 65535; otherwise the reason for rejecting it. */
export function parseListen(value: unknown): ListenAddress | { readonly reason: string } {
  const usage = `expected host:port, such as 127.0.0.1:9619 or "[::1]:9619" (in quotes), got ${showValue(value)}`;
  if (typeof value !== 'string') return { reason: usage };
  if (isIPv6(value)) {
    return {
      reason: `an IPv6 address takes brackets and a port, such as "[::1]:9619"; got ${showValue(value)}`,
    };
  }
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):([^:]*)$/.exec(value);
  if (match === null) return { reason: usage };
  const [, bracketed, plain = '', portText = ''] = match;
  const host = bracketed ?? plain;
  const known = bracketed === undefined ? isIPv4(host) || HOST_NAME.test(host) : isIPv6(host);
  if (!known)
    return { reason: `${showValue(host)} in ${showValue(value)} is neither a host name nor an address` };
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : Infinity;
  if (port > 65_535) {
    return { reason: `expected a port from 0 to 65535, got ${showValue(portText)} in ${showValue(value)}` };
  }
  return { host, port };
}

/** Whether only programs of this host can connect to it. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}
