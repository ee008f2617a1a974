// The data path: bytes between two connected stream sockets, outside of Objective-C.
#include <stddef.h>

/// Most bytes that are read in one direction before they are written.
enum { RelayBufferBytes = 128 * 1024 };

/// Copies both ways until both ways have ended, and keeps both descriptors open. `toClient` and `toGuest` go before
/// what is read; each is at most RelayBufferBytes long. An end of file is passed on, and the other way goes on; a side
/// that is gone altogether ends both. Needs a thread of its own, and SIGPIPE ignored. False, and errno, when there is
/// no memory.
int relay(int client, int guest, const char *toClient, size_t toClientLength, const char *toGuest,
          size_t toGuestLength);
