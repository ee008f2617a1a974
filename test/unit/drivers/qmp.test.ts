import { describe, expect, test } from '@jest/globals';

import { QmpParser } from '../../../src/drivers/qemu/qmp.js';

const LINES = [
  '{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}}, "capabilities": ["oob"]}}\r\n',
  '{"return": {}}\r\n',
  '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": false}}\r\n',
  '{"error": {"class": "CommandNotFound", "desc": "The command quit is unknown"}}\r\n',
];

describe("QEMU's machine protocol", () => {
  test.each(Array.from({ length: LINES.join('').length }, (_, index) => index))(
    'in two pieces, cut after %d bytes',
    (cut) => {
      const parser = new QmpParser();
      const text = LINES.join('');
      const messages = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
      expect(messages).toEqual([
        { kind: 'greeting' },
        { kind: 'return', value: {} },
        { kind: 'event', event: 'SHUTDOWN' },
        { kind: 'error', description: 'The command quit is unknown' },
      ]);
    },
  );

  test.each(['no JSON\n', '[]\n', '{"neither": 1}\n'])('%j is no message', (text) => {
    expect(() => new QmpParser().push(text)).toThrow(expect.objectContaining({ code: 'QMP_FAILED' }));
  });

  test('a message without an end', () => {
    expect(() => new QmpParser().push('x'.repeat(1024 * 1024 + 1))).toThrow(/without an end/);
  });
});
