/** One project per layer of tests. Real guests need root: other users do not have that layer. */
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
  // CI has two cores, and real guests keep them busy: more workers would only wait for each other.
  maxWorkers: 2,
  testTimeout: 240_000,
  projects: ['unit', 'integration', ...(process.getuid?.() === 0 ? ['e2e'] : [])].map((name) =>
    project(name),
  ),
  coverageProvider: 'v8',
  collectCoverageFrom: ['src/**/*.ts'],
  coverageReporters: ['text'],
};
