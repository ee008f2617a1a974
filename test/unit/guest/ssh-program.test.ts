import { PassThrough } from 'node:stream';

import { expect, test } from '@jest/globals';
import type { ClientChannel } from 'ssh2';

import { programOf } from '../../../src/guest/ssh-program.js';
import { within } from '../../support/wait.js';

test('a program is over once it is closed, though its guest never confirms that', async () => {
  const channel = Object.assign(new PassThrough({ emitClose: false }), {
    stderr: new PassThrough(),
    destroy: () => undefined,
  });
  const program = programOf(channel as unknown as ClientChannel);
  const messages = program.messages[Symbol.asyncIterator]();
  const next = messages.next();
  program.close();
  await expect(within('its end', next)).rejects.toMatchObject({ code: 'GUEST_EXEC_FAILED' });
});
