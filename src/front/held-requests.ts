import { DroverError } from '../lib/errors.js';
import { humanBytes } from '../lib/human.js';
import type { ClientIdentity } from './identity.js';

const MIB = 1024 * 1024;
/** Requests up to this size do not count: the number of sessions bounds them. Almost all are smaller. */
const SMALL_BYTES = MIB;
/** Maximum number of bytes of larger requests of one client that are received or served at the same time. */
const MAX_HELD_BYTES = 256 * MIB;

/**
 * Memory that large requests take. A request may have 64 MiB, and stays until it is answered, so that a client with
 * many sessions could fill the supervisor's memory. Trusted clients are not limited.
 */
export class HeldRequests {
  readonly #ofDomain = new Map<string, number>();

  /**
   * For the requests of one session, one after the other.
   * @returns sets the size of the present one; throws DroverError `PROTOCOL_LIMIT`
   */
  session({ trusted, domain }: ClientIdentity): ((bytes: number) => void) | undefined {
    if (trusted) return undefined;
    let held = 0;
    return (bytes) => {
      const counted = bytes > SMALL_BYTES ? bytes : 0;
      if (counted === held) return;
      const total = (this.#ofDomain.get(domain) ?? 0) + counted - held;
      if (total > MAX_HELD_BYTES) throw tooMuch();
      held = counted;
      if (total > 0) this.#ofDomain.set(domain, total);
      else this.#ofDomain.delete(domain);
    };
  }
}

function tooMuch(): DroverError {
  return new DroverError(
    'PROTOCOL_LIMIT',
    `The large requests of this client that are received or served take more than ${humanBytes(MAX_HELD_BYTES)}`,
    { hint: 'Start this build again when others of this client have ended.' },
  );
}
