import type { BuildMode } from '../../src/protocol/build-mode.js';
import { encodeBuildDerivation } from '../../src/protocol/operations.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import { encodeBuildDerivationResponse } from '../../src/protocol/responses.js';
import { storePath, VERSION } from './scripted-daemon.js';

/** A BuildDerivation request with one output. */
export function buildRequest(
  options: {
    platform?: string;
    inputs?: readonly StorePath[];
    output?: StorePath;
    args?: readonly string[];
    mode?: BuildMode;
    /** Hash of the output, of a derivation that fixes it. */
    fixed?: string;
  } = {},
): Buffer {
  const {
    platform = 'x86_64-linux',
    inputs = [],
    output = storePath('output'),
    args = [],
    mode = 'normal',
    fixed = '',
  } = options;
  return encodeBuildDerivation({
    drvPath: storePath('thing.drv'),
    mode,
    derivation: {
      outputs: new Map([
        ['out', { path: output, hashAlgorithm: fixed === '' ? '' : 'r:sha256', hash: fixed }],
      ]),
      inputSources: inputs,
      platform,
      builder: '/bin/sh',
      args,
      env: new Map(),
    },
  });
}

/** The response to one that was built. */
export const BUILT = encodeBuildDerivationResponse(
  {
    status: 'Built',
    errorMessage: '',
    timesBuilt: 1,
    isNonDeterministic: false,
    startTime: 0,
    stopTime: 0,
    builtOutputs: [],
  },
  VERSION,
);
