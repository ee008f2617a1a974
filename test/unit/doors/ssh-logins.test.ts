import { randomBytes } from 'node:crypto';

import { describe, expect, test } from '@jest/globals';
import ssh2 from 'ssh2';

import { Logins, type SshClient } from '../../../src/doors/ssh/logins.js';
import { sshString } from '../../support/raw-ssh.js';

interface Person {
  readonly client: SshClient;
  readonly publicKey: Buffer;
  /** A proof for one connection. */
  prove(
    sessionId: Buffer,
    change?: Partial<RequestParts>,
  ): { publicKey: Buffer; signed: Buffer; signature: Buffer };
}

interface RequestParts {
  readonly number: number;
  readonly service: string;
  readonly method: string;
  readonly hasSignature: number;
  readonly algorithm: string;
  readonly rest: Buffer;
}

function person(name: string, type: 'ed25519' | 'ecdsa' | 'rsa' = 'ed25519', algorithm?: string): Person {
  const pair =
    type === 'ed25519'
      ? ssh2.utils.generateKeyPairSync('ed25519')
      : type === 'rsa'
        ? ssh2.utils.generateKeyPairSync('rsa', { bits: 3072 })
        : ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  const key = ssh2.utils.parseKey(pair.private);
  if (key instanceof Error) return person(name, type, algorithm);
  const publicKey = key.getPublicSSH();
  const client = {
    ...{ key: `${key.type} ${publicKey.toString('base64')}`, fingerprint: `SHA256:${name}`, name },
    ...{ trusted: false, maxBuilds: undefined, maxSessions: 2 },
  };
  return {
    client,
    publicKey,
    prove: (sessionId, change = {}) => {
      const parts = {
        ...{ number: 50, service: 'ssh-connection', method: 'publickey', hasSignature: 1 },
        ...{ algorithm: algorithm ?? key.type, rest: Buffer.alloc(0) },
        ...change,
      };
      const signed = Buffer.concat([
        sshString(sessionId),
        Buffer.from([parts.number]),
        ...[sshString('user'), sshString(parts.service), sshString(parts.method)],
        Buffer.from([parts.hasSignature]),
        ...[sshString(parts.algorithm), sshString(publicKey), parts.rest],
      ]);
      const hash = /^rsa-sha2-(256|512)$/.exec(parts.algorithm)?.[1];
      const signature = key.sign(signed, hash === undefined ? undefined : `sha${hash}`);
      if (signature instanceof Error) throw signature;
      return { publicKey, signed, signature };
    },
  };
}

const sessionId = (): Buffer => randomBytes(32);

describe('logins at the ssh door', () => {
  test.each([
    ['ed25519', undefined],
    ['ecdsa', undefined],
    ['rsa', 'rsa-sha2-256'],
    ['rsa', 'rsa-sha2-512'],
  ] as const)('admit a listed key that has signed: %s %s', (type, algorithm) => {
    const alice = person('alice', type, algorithm);
    const logins = new Logins();
    logins.configure([alice.client], 5);
    const login = logins.admit(1, alice.prove(sessionId()));
    expect(login?.identity).toMatchObject({
      door: 'ssh',
      domain: 'key:SHA256:alice',
      trusted: false,
      maxSessions: 2,
    });
    expect(logins.find(login?.token ?? '')).toBe(login);
  });

  test('reject what proves nothing', () => {
    const [alice, bob] = [person('alice'), person('bob')];
    const logins = new Logins();
    logins.configure([alice.client], 5);
    const good = alice.prove(sessionId());
    const attempts = [
      bob.prove(sessionId()),
      { ...bob.prove(sessionId()), publicKey: alice.publicKey },
      { ...good, signature: Buffer.alloc(64) },
      { ...good, signature: Buffer.alloc(0) },
      { ...good, signed: Buffer.concat([good.signed, Buffer.alloc(1)]) },
      alice.prove(sessionId(), { number: 51 }),
      alice.prove(sessionId(), { service: 'ssh-other' }),
      alice.prove(sessionId(), { method: 'hostbased' }),
      alice.prove(sessionId(), { hasSignature: 0 }),
      alice.prove(sessionId(), { algorithm: 'ssh-rsa' }),
      alice.prove(sessionId(), { rest: Buffer.from('x') }),
      alice.prove(Buffer.alloc(4)),
    ];
    for (const attempt of attempts) expect(logins.admit(1, attempt)).toBeUndefined();
    for (let end = 0; end < good.signed.length; end++)
      expect(logins.admit(1, { ...good, signed: good.signed.subarray(0, end) })).toBeUndefined();
    expect(logins.admit(1, good)).toBeDefined();
  });

  test('reject RSA with SHA-1', () => {
    const alice = person('alice', 'rsa', 'ssh-rsa');
    const logins = new Logins();
    logins.configure([alice.client], 5);
    expect(logins.admit(1, alice.prove(sessionId()))).toBeUndefined();
  });

  test('accept each proof once', () => {
    const alice = person('alice');
    const logins = new Logins();
    logins.configure([alice.client], 5);
    const proof = alice.prove(sessionId());
    expect(logins.admit(1, proof)).toBeDefined();
    logins.end(1);
    expect(logins.admit(2, proof)).toBeUndefined();
  });

  test('limit the connections of one client', () => {
    const [alice, bob] = [person('alice'), person('bob')];
    const logins = new Logins();
    logins.configure([alice.client, bob.client], 5);
    const admitted = Array.from({ length: 30 }, (_, index) => logins.admit(index, alice.prove(sessionId())));
    expect(admitted.filter((login) => login !== undefined)).toHaveLength(2 + 16);
    expect(logins.admit(99, bob.prove(sessionId()))).toBeDefined();
  });

  test('name those that a change of the configuration concerns', () => {
    const [alice, bob] = [person('alice'), person('bob')];
    const logins = new Logins();
    logins.configure([alice.client, bob.client], 5);
    logins.admit(1, alice.prove(sessionId()));
    logins.admit(2, bob.prove(sessionId()));
    expect(logins.configure([alice.client, bob.client], 5)).toEqual([]);
    const trusted = { ...alice.client, trusted: true };
    expect(logins.configure([trusted, bob.client], 5).map(({ connection }) => connection)).toEqual([1]);
    expect(logins.configure([trusted], 5).map(({ connection }) => connection)).toEqual([1, 2]);
    expect(logins.admit(3, bob.prove(sessionId()))).toBeUndefined();
  });
});
