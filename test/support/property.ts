import fc from 'fast-check';

import { FUZZ_SEED } from './fuzz.js';

// The same cases each time, so that a run fails because of a change, and never by chance.
fc.configureGlobal({ seed: FUZZ_SEED });

export { default } from 'fast-check';
