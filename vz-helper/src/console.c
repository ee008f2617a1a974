#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char Marker[] = "[earlier output was dropped]\n";

struct console {
  pthread_mutex_t mutex; // of all below
  int file;
  int readEnd;
  int writeEnd;
  int terminal;
  off_t size;
  size_t maxBytes;
  bool broken;
  void (*failed)(int errnum);
  char buffer[64 * 1024];
};

/// Bytes of `buffer` to use: few enough that half a file, the marker and one chunk fit into `maxBytes`.
static size_t chunk_size(const struct console *c) {
  return c->maxBytes / 4 < sizeof c->buffer ? c->maxBytes / 4 : sizeof c->buffer;
}

static bool write_at(int file, const char *bytes, size_t length, off_t at) {
  while (length > 0) {
    ssize_t written = pwrite(file, bytes, length, at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes += written;
    at += written;
    length -= (size_t)written;
  }
  return true;
}

/// Moves the newer half of the file to its start, behind the marker. The two never overlap in a way that reads what was
/// written: what is read is always behind.
static bool drop_older_half(struct console *c) {
  char moved[16 * 1024];
  off_t from = c->size - (off_t)(c->maxBytes / 2);
  off_t to = (off_t)strlen(Marker);
  if (!write_at(c->file, Marker, strlen(Marker), 0)) return false;
  while (from < c->size) {
    ssize_t got = pread(c->file, moved, sizeof moved, from);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    if (!write_at(c->file, moved, (size_t)got, to)) return false;
    from += got;
    to += got;
  }
  c->size = to;
  return ftruncate(c->file, to) == 0;
}

static void append(struct console *c, size_t length) {
  if (c->broken) return;
  if ((unsigned long long)c->size + length > c->maxBytes && !drop_older_half(c)) c->broken = true;
  if (!c->broken && !write_at(c->file, c->buffer, length, c->size)) c->broken = true;
  if (c->broken) c->failed(errno);
  else c->size += (off_t)length;
}

/// No more is written once the other end is closed. Waits even if a reader of the same descriptor made it
/// non-blocking.
static void show(struct console *c, size_t length) {
  const char *bytes = c->buffer;
  while (c->terminal >= 0 && length > 0) {
    struct pollfd writable = {.fd = c->terminal, .events = POLLOUT};
    poll(&writable, 1, -1);
    ssize_t written = write(c->terminal, bytes, length);
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (written < 0) {
      c->terminal = -1;
      return;
    }
    bytes += written;
    length -= (size_t)written;
  }
}

/// One read, which does not wait. False when there is nothing.
static bool copy_chunk(struct console *c) {
  pthread_mutex_lock(&c->mutex);
  ssize_t got = read(c->readEnd, c->buffer, chunk_size(c));
  if (got > 0) {
    append(c, (size_t)got);
    show(c, (size_t)got);
  }
  pthread_mutex_unlock(&c->mutex);
  return got > 0;
}

static void *copy_forever(void *argument) {
  struct console *c = argument;
  for (;;) {
    struct pollfd readable = {.fd = c->readEnd, .events = POLLIN};
    if (poll(&readable, 1, -1) > 0) copy_chunk(c);
  }
  return NULL;
}

void console_drain(struct console *c) {
  // A pipe holds less than this; a process that is still writing is not waited for.
  for (size_t copied = 0; copied < 4 * 1024 * 1024 && copy_chunk(c); copied += chunk_size(c)) continue;
}

/// Not through a symbolic link, and nothing but a plain file: opening a FIFO would wait for its other end.
static int open_file(const char *path) {
  int file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  struct stat status;
  if (file < 0) return -1;
  errno = EINVAL;
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && fchmod(file, 0600) == 0 && ftruncate(file, 0) == 0)
    return file;
  int saved = errno;
  close(file);
  errno = saved;
  return -1;
}

void console_close(struct console *c) {
  int saved = errno;
  if (c->file >= 0) close(c->file);
  if (c->readEnd >= 0) close(c->readEnd);
  if (c->writeEnd >= 0) close(c->writeEnd);
  free(c);
  errno = saved;
}
struct console *console_open(const char *path, size_t maxBytes, int terminal, int *writeEnd) {
  struct console *c = calloc(1, sizeof *c);
  if (c == NULL) return NULL;
  int ends[2] = {-1, -1};
  c->maxBytes = maxBytes;
  c->terminal = terminal;
  c->file = open_file(path);
  if (c->file >= 0 && pipe(ends) != 0) ends[0] = ends[1] = -1;
  c->readEnd = ends[0];
  c->writeEnd = ends[1];
  if (c->file < 0 || c->readEnd < 0 || fcntl(c->readEnd, F_SETFL, O_NONBLOCK) != 0 ||
      fcntl(c->readEnd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(c->writeEnd, F_SETFD, FD_CLOEXEC) != 0) {
    console_close(c);
    return NULL;
  }
  pthread_mutex_init(&c->mutex, NULL);
  *writeEnd = c->writeEnd;
  return c;
}

bool console_start(struct console *c, void (*failed)(int errnum)) {
  pthread_t thread;
  c->failed = failed;
  errno = pthread_create(&thread, NULL, copy_forever, c);
  if (errno != 0) return false;
  pthread_detach(thread);
  return true;
}
