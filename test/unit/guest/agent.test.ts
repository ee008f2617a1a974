import { describe, expect, test } from '@jest/globals';

import { GuestAgent } from '../../../src/guest/agent.js';
import type { ExecResult } from '../../../src/guest/driver.js';

function agentThat(answer: Partial<ExecResult>): { agent: GuestAgent; asked: (readonly string[])[] } {
  const asked: (readonly string[])[] = [];
  const agent = new GuestAgent({
    exec: (argv) => {
      asked.push(argv);
      return Promise.resolve({ exitCode: 0, stdout: '', stderr: '', ...answer });
    },
  });
  return { agent, asked };
}

describe('the verbs of drover-guest', () => {
  test('hello returns the manifest and its deviations', async () => {
    const manifest = {
      generation: 'abc',
      nixVersion: '2.8.0',
      protocol: { major: 1, minor: 33, features: [] },
      systems: ['x86_64-linux'],
    };
    const { agent } = agentThat({ stdout: JSON.stringify({ ...manifest, more: 1 }) });
    expect(await agent.hello()).toEqual({
      ...manifest,
      brokenSystems: [],
      exactStore: false,
    });
    const broken = {
      ...{ ...manifest, brokenSystems: ['i686-linux'], exactStore: true, translator: 'qemu-user' },
    };
    expect(await agentThat({ stdout: JSON.stringify(broken) }).agent.hello()).toEqual(broken);
    for (const stdout of [
      '',
      '{}',
      'null',
      '{"generation":"abc"}',
      JSON.stringify({ ...manifest, brokenSystems: 1 }),
      JSON.stringify({ ...manifest, translator: 'other' }),
    ]) {
      await expect(agentThat({ stdout }).agent.hello()).rejects.toMatchObject({ code: 'GUEST_AGENT_FAILED' });
    }
  });

  test('register tells missing paths from a failure', async () => {
    expect(await agentThat({}).agent.register('')).toEqual([]);
    const missing = agentThat({ exitCode: 3, stdout: '/nix/store/a\n/nix/store/b\n' });
    expect(await missing.agent.register('')).toEqual(['/nix/store/a', '/nix/store/b']);
    await expect(agentThat({ exitCode: 1, stderr: 'no room\n' }).agent.register('')).rejects.toMatchObject({
      code: 'GUEST_AGENT_FAILED',
      message: 'drover-guest register failed in the guest (exit status 1): no room',
    });
  });

  test('a register that was prepared is used once', async () => {
    const inputs: Promise<string>[] = [];
    const agent = new GuestAgent({
      exec: async (_argv, stdin = '') => {
        inputs.push(Promise.resolve(stdin));
        await stdin;
        return { exitCode: 0, stdout: '', stderr: '' };
      },
    });
    agent.prepareRegister();
    agent.prepareRegister();
    expect(inputs).toHaveLength(1);
    await agent.register('first');
    expect(inputs).toHaveLength(1);
    await agent.register('second');
    expect(await Promise.all(inputs)).toEqual(['first', 'second']);
  });

  test('a register that ended before it had its input is not used', async () => {
    let runs = 0;
    const agent = new GuestAgent({
      exec: async (_argv, stdin = '') => {
        runs += 1;
        if (runs === 1) throw new Error('killed');
        await stdin;
        return { exitCode: 0, stdout: '', stderr: '' };
      },
    });
    agent.prepareRegister();
    await new Promise(setImmediate);
    expect(await agent.register('')).toEqual([]);
    expect(runs).toBe(2);
  });

  test('set-clock is given whole seconds', async () => {
    const { agent, asked } = agentThat({});
    await agent.setClock(1_700_000_000.9);
    expect(asked).toEqual([['drover-guest', 'set-clock', '1700000000']]);
  });

  test('stats are numbers', async () => {
    const stats = { scratchTotalBytes: 1, scratchUsedBytes: 2, scratchFreeBytes: 3, uptimeSeconds: 4.5 };
    const before = { routed: true, shareRetries: 0 };
    expect(await agentThat({ stdout: JSON.stringify(stats) }).agent.stats()).toEqual({ ...stats, ...before });
    const now = { ...stats, routed: false, shareRetries: 2 };
    expect(await agentThat({ stdout: JSON.stringify(now) }).agent.stats()).toEqual(now);
    await expect(agentThat({ stdout: '{"uptimeSeconds":"4"}' }).agent.stats()).rejects.toMatchObject({
      code: 'GUEST_AGENT_FAILED',
    });
  });
});
