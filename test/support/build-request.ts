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
  } = {},
): Buffer {
  const { platform = 'x86_64-linux', inputs = [], output = storePath('output'), args = [] } = options;
  return encodeBuildDerivation({
    drvPath: storePath('thing.drv'),
    mode: 'normal',
    derivation: {
      outputs: new Map([['out', { path: output, hashAlgorithm: '', hash: '' }]]),
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
