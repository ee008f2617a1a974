import { describe, expect, test } from '@jest/globals';

import { StateDir } from '../../../src/lib/state-dir.js';

describe('StateDir', () => {
  test('lists the names that Drover puts into the directory, however its path is written', () => {
    const entries = [
      'accelerator.json',
      'control.sock',
      'doors',
      'drover.pid',
      'etc',
      'guests',
      'history',
      'host',
      'ids',
      'images',
      'listings',
      'logs',
      'lost+found',
      'ssh',
    ];
    expect([...new StateDir('/var/lib/drover').entries].sort()).toEqual(entries);
    expect([...new StateDir('/var/lib//drover/').entries].sort()).toEqual(entries);
  });

  test('puts every path of a guest into the directory of that guest', () => {
    const { path, ...inside } = new StateDir('/s').guest('g7');
    expect(path).toBe('/s/guests/g7');
    for (const file of Object.values(inside)) expect(file).toMatch(/^\/s\/guests\/g7\/[^/]+$/);
  });
});
