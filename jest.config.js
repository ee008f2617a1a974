/** One project per layer of tests, so that `jest --selectProjects unit` needs neither Nix nor root. */
const base = {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' } },
    ],
  },
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
};
const project = (displayName, extra = {}) => ({
  ...base,
  ...extra,
  displayName,
  testMatch: [`<rootDir>/test/${displayName}/**/*.test.ts`],
});

export default {
  // Two cores and real guests: more workers only make the real processes wait for each other.
  maxWorkers: 2,
  testTimeout: 120_000,
  projects: [project('unit'), project('integration'), project('e2e')],
};
