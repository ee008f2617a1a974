import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { AuditLog } from '../../../src/audit/audit-log.js';
import { NO_RECORD } from '../../../src/audit/chain.js';
import { verifyAudit } from '../../../src/audit/verify.js';
import { createLog } from '../../../src/lib/log.js';
import fc from '../../support/property.js';

const log = createLog('silent');

describe('the audit log', () => {
  let path: string;

  beforeEach(() => {
    path = join(mkdtempSync(join(tmpdir(), 'drover-audit-')), 'audit.jsonl');
  });
  afterEach(() => {
    rmSync(dirname(path), { recursive: true });
  });

  async function write(...types: string[]): Promise<void> {
    const audit = await AuditLog.open(path, log);
    for (const type of types) audit.record(named(type));
    audit.close();
  }

  test('is a chain that can be followed, across restarts of the supervisor', async () => {
    await write('start', 'build');
    await write('start');
    const { fault, records, head, continues } = await verifyAudit([path]);
    expect({ fault, records, seq: head.seq, continues }).toEqual({
      fault: null,
      records: 3,
      seq: 3,
      continues: null,
    });
    const audit = await AuditLog.open(path, log);
    expect(audit.head).toEqual(head);
    audit.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('continues in a new file after it was renamed, and both are one chain', async () => {
    const audit = await AuditLog.open(path, log);
    audit.record({ type: 'a' });
    renameSync(path, `${path}.1`);
    audit.record({ type: 'b' });
    audit.reopen();
    audit.record({ type: 'c' });
    audit.close();
    expect(await verifyAudit([`${path}.1`, path])).toMatchObject({
      fault: null,
      records: 3,
      continues: null,
    });
    expect(await verifyAudit([path])).toMatchObject({ fault: null, records: 1, continues: { seq: 2 } });
    expect(await verifyAudit([path, `${path}.1`])).toMatchObject({ fault: { line: 1 } });
  });

  test('cuts off a record that a crash left incomplete, and goes on', async () => {
    await write('a', 'b');
    appendFileSync(path, '{"seq":3,"time":"20');
    expect(await verifyAudit([path])).toMatchObject({ fault: { line: 3 }, records: 2 });
    await write('c');
    expect(await verifyAudit([path])).toMatchObject({ fault: null, records: 3 });
  });

  test('starts again where a crash left less than one record', async () => {
    writeFileSync(path, '{"se', { mode: 0o600 });
    await write('a');
    expect(await verifyAudit([path])).toMatchObject({ fault: null, records: 1 });
  });

  test('any change, removal, repetition or exchange of lines before the last is found', async () => {
    await write('a', 'b', 'c', 'd', 'e');
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    const index = fc.nat(lines.length - 2);
    const tampered = fc.oneof(
      index.map((at) => lines.filter((_, i) => i !== at)),
      fc
        .tuple(index, fc.nat(60))
        .map(([at, byte]) => lines.map((line, i) => (i === at ? flip(line, byte) : line))),
      index.map((at) => [...lines.slice(0, at + 1), ...lines.slice(at)]),
      index.map((at) => [
        ...lines.slice(0, at),
        lines[at + 1] ?? '',
        lines[at] ?? '',
        ...lines.slice(at + 2),
      ]),
    );
    await fc.assert(
      fc.asyncProperty(tampered, async (changed) => {
        writeFileSync(path, `${changed.join('\n')}\n`);
        const { fault, continues } = await verifyAudit([path]);
        expect(fault !== null || continues !== null).toBe(true);
      }),
    );
  });

  test.each([
    ['text', 'hello\n'],
    ['JSON that is not a record', '{"seq":1}\n'],
    ['a line of over 1 MiB', 'x'.repeat(1024 * 1024 + 1)],
  ])('a file of %s is left as it is', async (_, content) => {
    writeFileSync(path, content, { mode: 0o600 });
    await expect(AuditLog.open(path, log)).rejects.toMatchObject({ code: 'AUDIT_UNUSABLE' });
    expect(readFileSync(path, 'utf8')).toBe(content);
    expect((await verifyAudit([path])).fault).not.toBeNull();
  });

  test('a directory in its place, or one that others can write, is an error', async () => {
    mkdirSync(path);
    await expect(AuditLog.open(path, log)).rejects.toMatchObject({ code: 'AUDIT_UNUSABLE' });
    chmodSync(join(path, '..'), 0o777);
    await expect(AuditLog.open(join(path, '../other'), log)).rejects.toMatchObject({
      code: 'AUDIT_UNUSABLE',
    });
  });

  test('a record that is too large says who it is about, but leaves out its lists', async () => {
    const audit = await AuditLog.open(path, log);
    const outputs = Array.from({ length: 20_000 }, (_, index) => ({
      path: `/nix/store/${index}`,
      narHash: 'x'.repeat(64),
    }));
    const about = { type: 'build', domain: 'key:SHA256:mallory', trusted: false, guest: null };
    const fields = { ...about, derivation: `d${'x'.repeat(2 * 1024 * 1024)}`, outputs };
    audit.record(fields);
    audit.close();
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({
      seq: 1,
      time: expect.any(String) as unknown,
      prev: NO_RECORD,
      ...about,
      derivation: `d${'x'.repeat(1023)}`,
      leftOut: { outputs: 20_000 },
      tooLarge: expect.any(Number) as unknown,
    });
    expect(await verifyAudit([path])).toMatchObject({ fault: null, records: 1 });
  });
});

function named(type: string): { type: string; name: string } {
  return { type, name: 'größe\u001b' };
}

function flip(line: string, at: number): string {
  return `${line.slice(0, at)}${line[at] === 'x' ? 'y' : 'x'}${line.slice(at + 1)}`;
}
