import type { Host } from '../host.js';
import { client, JOBS, type Contender } from './contender.js';

/** The floor: no builder at all. */
export async function localBuild(host: Host): Promise<Contender> {
  return await client(host, 'local', 'client-local', [`max-jobs = ${JOBS}`, 'builders =']);
}
