import { describe, expect, test } from '@jest/globals';

import { memoryOfVm } from '../../../src/drivers/vm/identity.js';

const GIB = 1024 ** 3;

describe('the memory of a VM by default', () => {
  test.each([
    [4, 2],
    [8, 2],
    [16, 4],
    [18, 4],
    [24, 6],
    [32, 8],
    [192, 8],
  ])('on a host with %d GiB is %d GiB', (host, memory) => {
    expect(memoryOfVm(host * GIB)).toBe(memory * GIB);
  });
});
