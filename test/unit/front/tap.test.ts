import { describe, expect, test } from '@jest/globals';

import { Tap } from '../../../src/front/tap.js';
import type { LogFrame } from '../../../src/protocol/log-scanner.js';
import { ACTIVITY_BUILD, RESULT_BUILD_LOG_LINE, RESULT_SET_PHASE } from '../../../src/protocol/stderr.js';

function start(id: bigint, type: number): LogFrame {
  return {
    kind: 'start-activity',
    activity: { id, level: 3, type, text: '', fields: [], parent: 0n },
  };
}

describe('the tap', () => {
  test('bounds the activities that it remembers, and still counts the lines of the build', () => {
    let lines = 0;
    const tap = new Tap({
      onText: () => undefined,
      onLog: () => {
        lines++;
        return undefined;
      },
      onBuild: () => undefined,
      onPhase: () => undefined,
    });
    void tap.observe(start(1n, ACTIVITY_BUILD));
    // Any builder can start them, by lines of its log that begin with @nix.
    for (let id = 2n; id <= 20_000n; id++) void tap.observe(start(id, 0));
    void tap.observe({ kind: 'result', id: 1n, type: RESULT_BUILD_LOG_LINE, fields: ['a line'] });
    expect(lines).toBe(1);
    expect(tap.takeOpenActivities()).toHaveLength(10_000);
  });

  test('passes a long line on in parts, of the build only', () => {
    const told: unknown[] = [];
    const tap = new Tap({
      onText: () => undefined,
      onLog: (text, isEnd) => void told.push([text, isEnd]),
      onBuild: () => undefined,
      onPhase: () => undefined,
    });
    void tap.observe(start(1n, ACTIVITY_BUILD));
    const part = { kind: 'result-part', type: RESULT_BUILD_LOG_LINE, text: 'a l' } as const;
    void tap.observe({ ...part, id: 1n });
    void tap.observe({ ...part, id: 2n });
    void tap.observe({ ...part, id: 1n, type: RESULT_SET_PHASE });
    void tap.observe({ kind: 'result', id: 1n, type: RESULT_BUILD_LOG_LINE, fields: ['ine'] });
    expect(told).toEqual([
      ['a l', false],
      ['ine', true],
    ]);
  });

  test('makes the name of a phase printable and short', () => {
    const phases: string[] = [];
    const tap = new Tap({
      onText: () => undefined,
      onLog: () => undefined,
      onBuild: () => undefined,
      onPhase: (phase) => phases.push(phase),
    });
    void tap.observe(start(1n, ACTIVITY_BUILD));
    const fields = [`\u001b]0;owned\u0007\n${'x'.repeat(1000)}`];
    void tap.observe({ kind: 'result', id: 1n, type: RESULT_SET_PHASE, fields });
    expect(phases).toEqual([`\\u001b]0;owned\\u0007\\u000a${'x'.repeat(49)}`]);
  });

  test('forgets what was stopped', () => {
    const tap = new Tap({
      onText: () => undefined,
      onLog: () => undefined,
      onBuild: () => undefined,
      onPhase: () => undefined,
    });
    for (let id = 1n; id <= 20_000n; id++) {
      void tap.observe(start(id, 0));
      void tap.observe({ kind: 'stop-activity', id });
    }
    void tap.observe(start(7n, 0));
    expect(tap.takeOpenActivities()).toEqual([7n]);
  });
});
