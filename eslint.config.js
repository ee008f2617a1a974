import { readFileSync } from 'node:fs';

import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

/** Folders that each folder of src/ may import besides itself and lib/. Dependencies point one way. */
const mayImport = JSON.parse(readFileSync(new URL('scripts/layers.json', import.meta.url), 'utf8'));
const folders = Object.keys(mayImport);

const oneWay = folders.map((folder) => {
  const allowed = mayImport[folder];
  const forbidden = folders.filter(
    (other) => other !== folder && other !== 'lib' && !allowed.includes(other),
  );
  return {
    files: [`src/${folder}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [...forbidden.map((other) => `**/${other}/**`), '**/main.js', '**/supervisor.js'].map(
            (group) => ({
              group: [group],
              message: `src/${folder} may import only: lib ${allowed.join(' ')}`,
            }),
          ),
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
        projectService: {
          allowDefaultProject: ['*.js', 'scripts/*.mjs', 'scripts/mac-truth/*.mjs', 'src/page/assets/*.js'],
        },
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
  {
    files: ['src/**/*.ts'],
    ignores: ['src/lib/process.ts'],
    rules: {
      // Not no-restricted-imports: the table above has that rule for each folder, and would be replaced.
      '@typescript-eslint/no-restricted-imports': [
        'error',
        {
          paths: ['child_process', 'node:child_process', 'execa'].map((name) => ({
            name,
            message: 'src/lib/process.ts starts all programs.',
            allowTypeImports: true,
          })),
        },
      ],
    },
  },
  { files: ['*.js', 'scripts/**/*.mjs', 'src/page/assets/*.js'], ...tseslint.configs.disableTypeChecked },
  prettier,
);
