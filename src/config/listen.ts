import { isIPv4, isIPv6 } from 'node:net';

import { showValue } from './errors.js';
import type { ListenAddress } from './schema.js';

/** Labels of letters, digits and `-`; the last one is no number, so a mistyped IPv4 address is no name. */
const HOST_NAME =
  /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?![0-9]+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/** `host:port` or `[IPv6]:port`, with a port from 0 (any free one) to 65535; otherwise the reason why not. */
export function parseListen(value: unknown): ListenAddress | { readonly reason: string } {
  const usage = `expected host:port, such as 127.0.0.1:9419 or "[::1]:9419" (in quotes), got ${showValue(value)}`;
  if (typeof value !== 'string') return { reason: usage };
  if (isIPv6(value)) {
    return {
      reason: `an IPv6 address stands in brackets, in front of a port: "[::1]:9419"; got ${showValue(value)}`,
    };
  }
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):([^:]*)$/.exec(value);
  if (match === null) return { reason: usage };
  const [, bracketed, plain = '', portText = ''] = match;
  const host = bracketed ?? plain;
  const known = bracketed === undefined ? isIPv4(host) || HOST_NAME.test(host) : isIPv6(host);
  if (!known) return { reason: `${showValue(host)} is not a host name or address, in ${showValue(value)}` };
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : Infinity;
  if (port > 65_535) {
    return { reason: `expected a port from 0 to 65535, got ${showValue(portText)} in ${showValue(value)}` };
  }
  return { host, port };
}
