import { isIP } from 'node:net';

/** Name of a `Host` header, in lower case, without port, brackets and the root's dot. */
function hostOf(header: string): string {
  return header
    .trim()
    .toLowerCase()
    .replace(/:\d*$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
}

/**
 * Tells requests under this machine's own names from those of a foreign site whose name was made to lead here (DNS
 * rebinding): its scripts could read the page. An IP address cannot be rebound.
 */
export class HostCheck {
  readonly #names: ReadonlySet<string>;

  /** @param names under which the page may be asked for, besides addresses and `localhost` */
  constructor(names: readonly string[]) {
    const own = names.map((name) => name.toLowerCase());
    // A machine also knows itself by the first part of its name, and by that in the local network.
    const short = own.filter((name) => isIP(name) === 0).map((name) => name.split('.', 1)[0] ?? name);
    this.#names = new Set(['localhost', ...own, ...short, ...short.map((name) => `${name}.local`)]);
  }

  accepts(header: string | undefined): boolean {
    const host = hostOf(header ?? '');
    return isIP(host) !== 0 || this.#names.has(host);
  }
}
