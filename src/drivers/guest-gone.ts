import { DroverError } from '../lib/errors.js';

/** The error of every call to a guest that has ended. */
export function guestGone(id: string): DroverError {
  return new DroverError('GUEST_GONE', `The guest ${id} is gone`, { context: { guest: id } });
}
