import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { DroverError } from '../../lib/errors.js';
import { run, spawnStream } from '../../lib/process.js';
import { strictModesFault } from '../../lib/strict-modes.js';
import { Channel } from '../../daemon/channel.js';
import { CLIENT_MAGIC, decodeServerGreeting } from '../../protocol/handshake-info.js';
import {
  atLeast,
  decodeFeatures,
  intersectVersions,
  LATEST_VERSION,
  versionToWire,
  writeFeatures,
  type ProtocolVersion,
} from '../../protocol/version.js';
import type { Conversation } from '../../protocol/wire.js';
import { WireWriter } from '../../protocol/wire-writer.js';

export interface NixFacts {
  readonly nixVersion: string;
  readonly protocol: ProtocolVersion;
}

/**
 * Asks a Nix what it is: its version, and by the beginning of a real handshake the protocol that it speaks. Uses a
 * store of no contents and a configuration of its own, so nothing of the host is read or written.
 * @param directory of `nix-daemon`
 */
export async function probeNix(directory: string, env: NodeJS.ProcessEnv): Promise<NixFacts> {
  const daemon = join(directory, 'nix-daemon');
  const home = await mkdtemp(join(tmpdir(), 'drover-probe-'));
  try {
    const childEnv = { PATH: env['PATH'], HOME: home, NIX_CONF_DIR: home, NIX_REMOTE: 'dummy://' };
    const { stdout } = await run(daemon, ['--version'], { env: childEnv });
    const nixVersion = /\(Nix\) (\S+)/.exec(stdout)?.[1];
    if (nixVersion === undefined)
      throw new Error(`${daemon} --version says ${JSON.stringify(stdout.trim())}`);
    const stream = await spawnStream(daemon, ['--stdio'], childEnv);
    const channel = new Channel(stream);
    try {
      return { nixVersion, protocol: await channel.run(greet()) };
    } finally {
      channel.destroy();
    }
  } catch (cause) {
    throw new DroverError('NIX_UNUSABLE', `The Nix in ${directory} cannot be used in guests`, {
      cause,
      hint: 'Install Nix 2.4 or later, or name the directory of its programs as guest.nix.',
    });
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

/** Warnings about who could change this Nix, which root on this host runs, too. */
export async function nixWarnings(directory: string): Promise<string[]> {
  const fault = await strictModesFault(join(directory, 'nix-daemon'));
  if (fault === undefined) return [];
  return [`root runs the programs in guest.nix (${directory}), and could be made to run others: ${fault}`];
}

/** The handshake only as far as the features: the rest would need a store. */
function* greet(): Conversation<ProtocolVersion> {
  yield new WireWriter().u64(CLIENT_MAGIC).u64(versionToWire(LATEST_VERSION)).finish();
  const version = intersectVersions(LATEST_VERSION, yield* decodeServerGreeting());
  if (!atLeast(version, 38)) return version;
  const writer = new WireWriter();
  writeFeatures(writer, LATEST_VERSION.features);
  yield writer.finish();
  return { ...version, features: yield* decodeFeatures() };
}
