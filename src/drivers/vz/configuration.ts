import { MAX_CONSOLE_LOG_BYTES } from '../../lib/console-log.js';
import type { GuestDir } from '../../lib/state-dir.js';
import type { GuestImage } from '../vm/image.js';
import type { HelperConfiguration } from './helper-protocol.js';
import type { TranslationPlan } from './translators.js';

/**
 * Socket of `rosettad`, which keeps translations, in guests. A path, so that it can be bound into sandboxes
 * of builds.
 */
const ROSETTAD_SOCKET = '/run/rosettad/rosetta.sock';

export interface ConfigurationSpec {
  readonly image: Pick<GuestImage, 'kernel' | 'initrd' | 'commandLine'>;
  /** See `StoreView`. */
  readonly kernelParameters: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly dir: GuestDir;
  readonly storeDir: string;
  readonly consoleLog: string;
  readonly rosetta: TranslationPlan['rosetta'];
  /** Undefined: no network. */
  readonly mac: string | undefined;
  readonly nested: boolean;
  /** A directory of the user that the guest can write. */
  readonly share: string | undefined;
  /** Whether the helper's console descriptor is the guest's console as well. */
  readonly terminal: boolean;
}

/** A guest as the image contract has it (docs/images.md), in vz-helper's words. */
export function guestConfiguration(spec: ConfigurationSpec): HelperConfiguration {
  const { kernel, initrd, commandLine } = spec.image;
  const { scratch, files, vsock } = spec.dir;
  return {
    kernel,
    initrd,
    commandLine: `console=hvc0 ${spec.kernelParameters} ${commandLine}`,
    cpus: spec.cores,
    memoryBytes: spec.memoryBytes,
    disks: [{ path: scratch, readOnly: false, identifier: 'drover-scratch' }],
    shares: [
      { tag: 'nix-store', path: spec.storeDir, readOnly: true },
      { tag: 'drover', path: files, readOnly: true },
      ...(spec.share === undefined ? [] : [{ tag: 'share', path: spec.share, readOnly: false }]),
    ],
    rosetta:
      spec.rosetta === 'off'
        ? null
        : {
            tag: 'rosetta',
            cache: spec.rosetta === 'cache' ? { path: ROSETTAD_SOCKET } : null,
          },
    network: spec.mac === undefined ? null : { mac: spec.mac },
    console: {
      path: spec.consoleLog,
      maxBytes: MAX_CONSOLE_LOG_BYTES,
      ...(spec.terminal ? { terminal: true } : {}),
    },
    vsock: { path: vsock },
    nested: spec.nested,
  };
}
