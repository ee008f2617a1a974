/** Descriptors that the ssh server inherits: a socket to the supervisor, and the socket that clients connect to. */
export const CONTROL_FD = 3;
export const LISTENER_FD = 4;
