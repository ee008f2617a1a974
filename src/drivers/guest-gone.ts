import { DroverError } from '../lib/errors.js';

/** What is asked of a guest that has ended fails with this. */
export function guestGone(id: string): DroverError {
  return new DroverError('GUEST_GONE', `The guest ${id} is gone`, { context: { guest: id } });
}
