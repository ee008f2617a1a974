import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

/** What each folder of src/ may import besides itself and lib/. Dependencies point one way. */
const mayImport = {
  lib: [],
  protocol: [],
  config: [],
  'host-store': ['protocol'],
  'drivers/driver.ts': [],
  guest: ['protocol', 'host-store', 'drivers/driver'],
  pool: ['guest', 'drivers/driver'],
  front: ['protocol', 'host-store', 'guest', 'pool', 'drivers/driver'],
  doors: ['front'],
  drivers: ['protocol', 'guest'],
  metrics: ['pool', 'front'],
  control: ['pool', 'front', 'metrics'],
  cli: ['control', 'config'],
  demo: ['control', 'config'],
};
const folders = Object.keys(mayImport).filter((name) => !name.includes('.'));

const oneWay = folders.map((folder) => {
  const allowed = mayImport[folder];
  const forbidden = folders.filter(
    (other) =>
      other !== folder && other !== 'lib' && !allowed.some((a) => a === other || a.startsWith(`${other}/`)),
  );
  return {
    files: [`src/${folder}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            ...forbidden.map((other) => ({
              group: [`**/${other}/**`],
              message: `src/${folder} may import only: lib ${allowed.join(' ')}`,
            })),
            ...(allowed.includes('drivers/driver')
              ? [{ regex: '/drivers/(?!driver\\.js)', message: 'Only the driver interface is visible here.' }]
              : []),
          ],
        },
      ],
    },
  };
});

export default tseslint.config(
  { ignores: ['dist', 'dist.new', 'dist.old', 'node_modules', 'coverage', 'test/fixtures'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['*.js'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      eqeqeq: 'error',
    },
  },
  ...oneWay,
  { files: ['*.js'], ...tseslint.configs.disableTypeChecked },
  prettier,
);
