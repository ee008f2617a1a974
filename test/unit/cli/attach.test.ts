import { PassThrough } from 'node:stream';

import { beforeEach, describe, expect, test } from '@jest/globals';

import { attach, type ProgramIo, type Terminal } from '../../../src/cli/attach.js';
import { encodeFromProgram, readFrames } from '../../../src/guest/program.js';
import { connectedPair } from '../../support/connected-pair.js';

const TERMINAL: Terminal = { columns: 80, rows: 24, type: 'xterm' };
const CTRL_BRACKET = '\u001d';

describe('a terminal attached to a machine', () => {
  let stdin: PassThrough;
  let stdout: PassThrough;
  let cooked: boolean;
  let io: ProgramIo;
  beforeEach(() => {
    [stdin, stdout] = [new PassThrough(), new PassThrough()];
    cooked = true;
    io = {
      ...{ stdin, stdout, stderr: new PassThrough() },
      makeRaw: () => {
        cooked = false;
        return () => (cooked = true);
      },
      onSignal: () => () => undefined,
    };
  });

  /** Attaches it. @returns the exit status, and the input that arrived before the client closed */
  async function session(terminal: Terminal | null, options: { escape?: boolean; input?: boolean }) {
    const [client, server] = connectedPair();
    const ended = attach(client, io, terminal, () => undefined, options);
    let input = '';
    for await (const { kind, content } of readFrames(server)) {
      if (kind === 'i') input += String(content);
      if (input.endsWith('done')) server.write(encodeFromProgram({ kind: 'exit', code: 7 }));
    }
    server.end();
    return { status: await ended, input };
  }

  test('is left by Ctrl-], whose rest is not sent, and is as it was before', async () => {
    stdin.write(`ls\r${CTRL_BRACKET}rm -rf /\r`);
    expect(await session(TERMINAL, { escape: true })).toEqual({ status: 0, input: 'ls\r' });
    expect(cooked).toBe(true);
  });

  test.each([
    ['of a program that has no escape', TERMINAL, {}],
    ['that comes from a pipe', null, { escape: true }],
  ] as const)('passes Ctrl-] %s', async (_, terminal, options) => {
    stdin.write(`${CTRL_BRACKET}done`);
    expect(await session(terminal, options)).toEqual({ status: 7, input: `${CTRL_BRACKET}done` });
  });
});
