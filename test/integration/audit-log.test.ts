import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, test } from '@jest/globals';

import { AuditLog } from '../../src/audit/audit-log.js';
import { verifyAudit } from '../../src/audit/verify.js';
import { createLog } from '../../src/lib/log.js';

const asRoot = process.getuid?.() === 0 ? test : test.skip;

describe('the audit log on a full disk', () => {
  asRoot('keeps whole records only, holds back the rest, and writes them once there is room', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'drover-audit-full-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', dir]);
    try {
      const path = join(dir, 'audit.jsonl');
      const audit = await AuditLog.open(path, createLog('silent'));
      audit.requireWritable();
      const record = { type: 'build', text: 'x'.repeat(1000) };
      writeFileSync(join(dir, 'ballast'), Buffer.alloc(32 * 1024));
      for (let count = 0; count < 100; count++) audit.record(record);
      expect(() => {
        audit.requireWritable();
      }).toThrow(`The audit log ${path} cannot be used`);
      const full = await verifyAudit([path]);
      expect(full).toMatchObject({ fault: null, head: audit.head });
      expect(full.records).toBeLessThan(100);
      rmSync(join(dir, 'ballast'));
      execFileSync('mount', ['-o', 'remount,size=1m', dir]);
      audit.requireWritable();
      audit.close();
      expect(await verifyAudit([path])).toMatchObject({ fault: null, records: 100, head: audit.head });
    } finally {
      execFileSync('umount', [dir]);
      rmSync(dir, { recursive: true });
    }
  });
});
