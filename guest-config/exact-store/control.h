// How the guest is told what to show: a Unix socket, for root only. A client sends, for each store path, a line `path
// NAME` and its listing (listing.h); then it ends its side. The answer is `missing NAME` for each path that cannot be
// shown, then `done`, or `error TEXT`. A client that sends only `?` is told the counters.
#pragma once
#include <stdio.h>

/// Returns a listening socket, or -1 and errno.
int control_listen(const char *socketPath);
/// Answers clients, for ever. `maxBytes`: memory that all listings may take.
void control_serve(int listener, unsigned long maxBytes);

// / `exact-store register SOCKET STORE FD`: reads listings up to a line `registration` from standard input. Makes the
// store, / an overlay, forget that the paths were not there; has them shown; then writes the rest of the input to
// descriptor FD. If / some cannot be shown, it prints them, writes nothing to FD, and returns 3.
int control_register(const char *socketPath, const char *store, int fd);
/// Has the paths shown whose listings the file holds. Prints those that cannot be shown, and returns 1 then.
int control_send(const char *socketPath, FILE *listings);
/// `exact-store status SOCKET`
int control_status(const char *socketPath);
