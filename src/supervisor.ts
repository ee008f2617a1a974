import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { Config } from './config/schema.js';
import { loadHostKey } from './doors/host-key.js';
import { openSocketDoor } from './doors/socket-door.js';
import { openSshDoor } from './doors/ssh-door.js';
import type { GuestDriver } from './drivers/driver.js';
import { NamespaceDriver } from './drivers/namespace/driver.js';
import { Front } from './front/front.js';
import { CaseHackDetector } from './guest/case-hack.js';
import { hostStore } from './host-store/host-store.js';
import { systemClock } from './lib/clock.js';
import type { Log } from './lib/log.js';
import { makePrivateDir } from './lib/private-dir.js';
import { Pool } from './pool/pool.js';

/** The directory of Drover's own files: `dist` or `src` is in it. */
const PACKAGE_DIR = fileURLToPath(new URL('..', import.meta.url));
const STORE_DIR = '/nix/store';

async function createDriver(config: Config, env: NodeJS.ProcessEnv): Promise<GuestDriver> {
  return await NamespaceDriver.create({
    stateDir: config.stateDir,
    scripts: join(PACKAGE_DIR, 'guest-config'),
    env,
    storeDir: STORE_DIR,
    maxJobs: config.pool.jobsPerGuest,
    features: config.features,
    guest: config.guest,
  });
}

export async function startSupervisor(config: Config, env: NodeJS.ProcessEnv, log: Log) {
  await makePrivateDir(config.stateDir);
  const host = hostStore(env);
  await (await host.connect())[Symbol.asyncDispose]();
  const driver = await createDriver(config, env);
  for (const found of await driver.reap()) log.warn({ found }, 'cleaned up after an earlier run');
  const pool = new Pool(driver, config.pool, systemClock, log);
  const front = new Front({
    manifest: driver.manifest,
    host,
    leaser: pool,
    caseHack: new CaseHackDetector(),
    clock: systemClock,
    log,
  });
  const door = await openSocketDoor(front, config.doors.socket.path, {
    connect: join(PACKAGE_DIR, 'dist/drover-connect'),
  });
  const { ssh } = config.doors;
  const sshDoor =
    ssh.authorizedKeys.length === 0
      ? undefined
      : await openSshDoor(front, {
          ...ssh.listen,
          authorizedKeys: ssh.authorizedKeys,
          hostKey: await loadHostKey(join(config.stateDir, 'ssh/host_ed25519_key')),
          log,
        });
  pool.start();
  return { pool, front, door, sshDoor, driver };
}
