// test-needs.mjs < LIST: reads test files from `jest --listTests` (as lines or as JSON) and prints the requirements
// that they name in describeWith and describeE2e (test/support/requirements.ts), one per line. scripts/setup.sh and
// scripts/test-inputs.sh install them.
import { readFileSync } from 'node:fs';

/** Requirements of every test with real guests: see describeE2e. */
const E2E = ['root', 'dist', 'nix', 'ssh', 'procps'];

const needs = new Set();
const files = readFileSync(0, 'utf8').match(/[^\s",[\]]+\.test\.ts/g) ?? [];
if (files.length === 0) {
  console.error('drover: no test file has such a name (those in test/e2e are left out without root)');
  process.exit(1);
}
for (const file of files) {
  const text = readFileSync(file, 'utf8');
  if (/\bdescribeE2e\(/.test(text)) for (const need of E2E) needs.add(need);
  for (const [, list] of text.matchAll(/\bdescribe(?:With|E2e)\(\s*[^[\]]+?,\s*\[([^\]]*)\]/g))
    for (const [, need] of list.matchAll(/'([^']+)'/g)) needs.add(need);
}
console.log([...needs].sort().join('\n'));
