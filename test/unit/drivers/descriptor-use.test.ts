import { PassThrough } from 'node:stream';

import { expect, test } from '@jest/globals';

import { DescriptorUse, maxOpenFiles, parseMaxOpenFiles } from '../../../src/drivers/qemu/descriptor-use.js';

// As virtiofsd 1.13.2 prints them.
const NO_HANDLES =
  '[2026-11-21T06:47:39Z WARN  virtiofsd::passthrough] Failed to generate a file handle for the root node, disabling file handles altogether\n';
const NONE_LEFT =
  '[2026-11-21T06:47:39Z ERROR virtiofsd::passthrough::guest_fd_limit] No more file descriptors available to the guest (0 available out of 19390 initially), consider increasing the --rlimit-nofile value\n';

test('a virtiofsd without output keeps no descriptors', () => {
  expect(new DescriptorUse(null).keepsOnePerFile).toBe(false);
});

test('its output is parsed wherever it is split', async () => {
  for (let at = 0; at <= NO_HANDLES.length; at++) {
    const log = new PassThrough();
    const use = new DescriptorUse(log);
    log.write(NO_HANDLES.slice(0, at));
    log.end(`${NO_HANDLES.slice(at)}${NONE_LEFT}`);
    await use.exhausted;
    expect(use.keepsOnePerFile).toBe(true);
  }
});

test('the effective limit is the soft one', async () => {
  const limits = 'Max processes             95000                95000                processes \n';
  const files = 'Max open files            20000                524288               files     \n';
  expect(parseMaxOpenFiles(limits + files)).toBe(20_000);
  expect(await maxOpenFiles(process.pid)).toBeGreaterThan(0);
});
