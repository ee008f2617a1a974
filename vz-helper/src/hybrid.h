// The first line of a connection: `CONNECT <port>\n`, as in Firecracker's hybrid vsock.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hybrid_request {
  uint32_t port;
  /// Bytes that came after the line.
  char rest[4096];
  size_t restLength;
};

/// Waits for the line, at most so long. False when it does not come or is another.
bool hybrid_read(int client, int timeoutMs, struct hybrid_request *request);

/// A Unix socket of mode 0600 that listens at `path`, where nothing may be yet. -1, and errno, on failure.
int hybrid_listen(const char *path);

/// Gives a stream socket buffers that keep a relay busy; macOS's own are 8 KiB. Where it cannot, it is only slower.
void hybrid_widen(int socket);

/// The next connection of this process's user; those of others are closed. -1, and errno, when none can be accepted.
int hybrid_accept(int listener);
