#include "hybrid.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
  MaxLineBytes = 32,
  Backlog = 128,
  SocketBufferBytes = 256 * 1024,
};

static const char Word[] = "CONNECT ";

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/// `line` without its newline: the word and a decimal port that vsock can have.
static bool parse(const char *line, size_t length, uint32_t *port) {
  size_t word = strlen(Word);
  if (length <= word || length > word + 10 || memcmp(line, Word, word) != 0) return false;
  uint64_t number = 0;
  for (size_t at = word; at < length; at++) {
    if (line[at] < '0' || line[at] > '9') return false;
    number = number * 10 + (uint64_t)(line[at] - '0');
  }
  *port = (uint32_t)number;
  return number >= 1 && number < UINT32_MAX;
}

bool hybrid_read(int client, int timeoutMs, struct hybrid_request *request) {
  char bytes[sizeof request->rest];
  size_t length = 0;
  int64_t deadline = now_ms() + timeoutMs;
  for (;;) {
    int64_t left = deadline - now_ms();
    struct pollfd readable = {.fd = client, .events = POLLIN};
    if (left <= 0 || (poll(&readable, 1, (int)left) < 0 && errno != EINTR)) return false;
    ssize_t got = read(client, bytes + length, sizeof bytes - length);
    if (got == 0) return false;
    if (got < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) continue;
      return false;
    }
    length += (size_t)got;
    const char *newline = memchr(bytes, '\n', length < MaxLineBytes ? length : MaxLineBytes);
    if (newline == NULL && length >= MaxLineBytes) return false;
    if (newline == NULL) continue;
    size_t line = (size_t)(newline - bytes);
    request->restLength = length - line - 1;
    memcpy(request->rest, newline + 1, request->restLength);
    return parse(bytes, line, &request->port);
  }
}

int hybrid_listen(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (listener < 0) return -1;
  fcntl(listener, F_SETFD, FD_CLOEXEC);
  // Clients cannot connect before listen, so the mode is never wider than this.
  if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0) {
    if (chmod(path, 0600) == 0 && listen(listener, Backlog) == 0) return listener;
    int saved = errno;
    unlink(path);
    errno = saved;
  }
  int saved = errno;
  close(listener);
  errno = saved;
  return -1;
}

void hybrid_widen(int socket) {
  int size = SocketBufferBytes;
  setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

int hybrid_accept(int listener) {
  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (client < 0) return -1;
    uid_t uid;
    gid_t gid;
    if (getpeereid(client, &uid, &gid) == 0 && uid == geteuid()) {
      fcntl(client, F_SETFD, FD_CLOEXEC);
      fcntl(client, F_SETFL, O_NONBLOCK);
      hybrid_widen(client);
      return client;
    }
    close(client);
  }
}
