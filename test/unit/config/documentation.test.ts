import { readFile } from 'node:fs/promises';

import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';

import { defaultConfig, parseConfig } from '../../../src/config/load.js';
import { configSchema } from '../../../src/config/schema.js';
import { REPOSITORY } from '../../support/drover.js';

const host = { env: {}, uid: 0, home: '/root' };

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly allOf?: readonly JsonSchema[];
  readonly anyOf?: readonly JsonSchema[];
}

/** Names of all keys, at any depth. */
function keysOf(schema: JsonSchema): string[] {
  const parts = [schema, ...(schema.allOf ?? []), ...(schema.anyOf ?? [])];
  return parts.flatMap(({ properties = {} }) =>
    Object.entries(properties).flatMap(([key, value]) => [key, ...keysOf(value)]),
  );
}

describe('docs/configuration.md', () => {
  const yaml = readFile(`${REPOSITORY}docs/configuration.md`, 'utf8').then((text) => {
    const block = /```yaml\n(.*?)```/s.exec(text)?.[1];
    if (block === undefined) throw new Error('docs/configuration.md has no block of YAML');
    return block;
  });

  test('shows the default of every key that it sets', async () => {
    expect(parseConfig(await yaml, 'configuration.md', host)).toEqual(defaultConfig(host));
  });

  test('names every key of the schema', async () => {
    const text = await yaml;
    const keys = keysOf(
      z.toJSONSchema(configSchema('/'), { io: 'input', unrepresentable: 'any' }) as JsonSchema,
    );
    expect(keys).toContain('authorizedKeys');
    expect(keys.filter((key) => !new RegExp(`(^|[ {])${key}:`, 'm').test(text))).toEqual([]);
  });
});
