import type { IncomingMessage } from 'node:http';

import { DroverError } from '../lib/errors.js';
import { printable } from '../lib/printable.js';
import type { BootReport, CancelRequest } from './api.js';
import type { Operator } from './operator.js';

const MAX_BODY_BYTES = 16 * 1024;
const MAX_TEXT_CHARACTERS = 200;

/** Carries out one POST request. @returns its answer */
export async function readOrder(
  request: IncomingMessage,
  parts: readonly string[],
  operator: Operator,
): Promise<object> {
  const body = await readBody(request);
  const [what, id = '', verb] = parts;
  const order = parts.length === 3 ? `${what}/ID/${verb}` : parts.join('/');
  switch (order) {
    case 'builds/ID/cancel':
      await operator.cancel(id, cancelRequest(body));
      return {};
    case 'guests/ID/drain':
      operator.drain(id);
      return {};
    case 'drain':
      operator.drainAll();
      return {};
    case 'resume':
      operator.resume();
      return {};
    case 'boot':
      return { guest: operator.boot() } satisfies BootReport;
    default:
      throw failed(`There is no order ${order.slice(0, 80)}`);
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > MAX_BODY_BYTES) throw failed('The request is too long');
  }
  if (text === '') return {};
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw failed('The request is not JSON');
  }
}

function cancelRequest(body: unknown): CancelRequest {
  const { by, reason } = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  return {
    by: shown(by) ?? 'its operator',
    reason: shown(reason) ?? null,
  };
}

function shown(value: unknown): string | undefined {
  return typeof value === 'string' && value !== ''
    ? printable(value.slice(0, MAX_TEXT_CHARACTERS))
    : undefined;
}

function failed(message: string): DroverError {
  return new DroverError('CONTROL_FAILED', message, {
    hint: 'Client and supervisor may be of different versions.',
  });
}
