import { afterAll, beforeAll, expect, test } from '@jest/globals';

import {
  HELPER_ERROR_DOMAIN,
  helperConfigurationSchema,
  helperErrorCodes as codes,
  helperReplySchema,
} from '../../src/drivers/vz/helper-protocol.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper, RawHelper, type Message } from '../support/vz-helper.js';
import fc from '../support/property.js';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Places in `value`: the keys that lead there. */
function places(value: Json, path: readonly string[] = []): string[][] {
  const inside =
    typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, child]) => places(child, [...path, key]))
      : [];
  return [[...path], ...inside];
}

/** `value` with `change` made at the place. */
function changed(value: Json, path: readonly string[], change: (old: Json) => Json | undefined): Json {
  const [key, ...rest] = path;
  if (key === undefined) return change(value) ?? null;
  if (Array.isArray(value))
    return value.flatMap((child, index) => {
      if (String(index) !== key) return [child];
      if (rest.length > 0) return [changed(child, rest, change)];
      const made = change(child);
      return made === undefined ? [] : [made];
    });
  const copy = { ...(value as { [key: string]: Json }) };
  const made = rest.length > 0 ? changed(copy[key] ?? null, rest, change) : change(copy[key] ?? null);
  if (made === undefined) return Object.fromEntries(Object.entries(copy).filter(([name]) => name !== key));
  return { ...copy, [key]: made };
}

const interesting = fc.oneof(
  fc.constantFrom<Json>(
    ...[
      null,
      true,
      false,
      0,
      1,
      -1,
      2 ** 53,
      1e308,
      0.5,
      '',
      '/',
      'a',
      '/tmp',
      '\0',
      '/a\0b',
      'é'.repeat(20),
    ],
    ...[[], {}, [[]], '52:54:00:00:00:01', '53:54:00:00:00:01', '5254:0:00:00:00:01', 'x'.repeat(36)],
    ...[
      'x'.repeat(104),
      `/${'x'.repeat(103)}`,
      `/${'y'.repeat(1023)}`,
      'z'.repeat(2048),
      'a\nb',
      'a/b',
      4096,
      4095,
    ],
  ),
  fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<Json>,
  fc.string({ unit: 'binary' }),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);

describeWith('arbitrary input to vz-helper', ['vz-helper'], () => {
  let helper: RawHelper;
  beforeAll(async () => {
    // macOS accepts no configuration here, so that one process can be asked again and again.
    helper = await RawHelper.start(await buildVzHelper(), { knobs: ['invalid', 'nested'] });
    await helper.ok('hello', { protocol: 1 });
  });
  afterAll(async () => {
    await helper[Symbol.asyncDispose]();
  });

  const valid = (): Json =>
    helper.configuration({
      disks: [{ path: helper.path('disk'), readOnly: true, identifier: 'seed' }],
      shares: [{ tag: 'store', path: '/usr', readOnly: true }],
      rosetta: { tag: 'rosetta', cache: { path: '/run/rosettad/rosetta.sock' } },
      network: { mac: '52:54:00:00:00:01' },
    }) as unknown as Json;

  test('configurations with something changed: the helper and the schema agree', async () => {
    const change = fc.record({
      place: fc.nat(),
      kind: fc.constantFrom('replace', 'remove', 'add'),
      key: fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('path', 'Kernel', '__proto__x', '')),
      value: interesting,
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
        let config = valid();
        for (const { place, kind, key, value } of changes) {
          const all = places(config);
          const path = all[place % all.length] ?? [];
          config = changed(config, path, (old) => {
            if (kind === 'remove') return undefined;
            if (kind === 'replace') return value;
            if (Array.isArray(old)) return [...old, value];
            return typeof old === 'object' && old !== null ? { ...old, [key]: value } : value;
          });
        }
        const reply = helperReplySchema.parse(await helper.ask('configure', { config }));
        expect(reply.ok).toBe(false);
        if (reply.ok) return;
        const { domain, code, key } = reply.error;
        const accepted = helperConfigurationSchema.safeParse(config).success;
        // The schema does not know this Mac's limits.
        const byLimits = domain === HELPER_ERROR_DOMAIN && /^config\.(cpus|memoryBytes)$/.test(key ?? '');
        const badRequest = domain === HELPER_ERROR_DOMAIN && code === codes.badRequest;
        if (!accepted)
          expect({ config, badRequest, key }).toMatchObject({ badRequest: true, key: expect.any(String) });
        else if (!byLimits) expect({ config, badRequest, key }).toMatchObject({ badRequest: false });
      }),
      { numRuns: 600 },
    );
    await helper.ok('hello', { protocol: 1 });
  });

  test('lines: each is answered once, and the process goes on', async () => {
    const request = JSON.stringify({ id: 5, op: 'configure', config: valid() });
    const line = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.json(),
      fc
        .record({
          at: fc.nat(request.length),
          insert: fc.string({ unit: 'binary', maxLength: 3 }),
          drop: fc.nat(5),
        })
        .map(({ at, insert, drop }) => request.slice(0, at) + insert + request.slice(at + drop)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 20 }), async (lines) => {
        const before = helper.messages.length;
        const sent = lines.map((each) => each.replaceAll('\n', ' ')).filter((each) => each !== '');
        for (const each of sent) helper.write(`${each}\n`);
        await helper.ok('hello', { protocol: 1 });
        const replies: Message[] = helper.messages.slice(before, -1);
        expect(replies).toHaveLength(sent.length);
        for (const reply of replies) expect(helperReplySchema.parse(reply).ok).toBe(false);
      }),
      { numRuns: 200 },
    );
  });
});
