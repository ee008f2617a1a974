#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/// One of the two ways. States: reading (buffer empty) ⇄ writing (buffer not empty) → ended.
struct way {
  int from, to;
  bool sourceEnded; // end of file: what is in the buffer is the last
  bool ended;
  size_t start, end; // of what is in the buffer
  char *buffer;
};

static bool waits_to_write(const struct way *w) { return !w->ended && w->start < w->end; }
static bool waits_to_read(const struct way *w) { return !w->ended && w->start == w->end; }

/// The receiver of this direction is gone.
static void give_up(struct way *w) {
  w->ended = true;
  shutdown(w->from, SHUT_RD);
}

/// False when it would have to wait.
static bool write_some(struct way *w) {
  ssize_t written = write(w->to, w->buffer + w->start, w->end - w->start);
  if (written >= 0) w->start += (size_t)written;
  else if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
  else if (errno != EINTR) give_up(w);
  return true;
}

/// False when it would have to wait.
static bool read_some(struct way *w) {
  ssize_t got = read(w->from, w->buffer, RelayBufferBytes);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (got < 0 && errno == EINTR) return true;
  w->start = 0;
  w->end = got > 0 ? (size_t)got : 0;
  w->sourceEnded = got <= 0;
  return true;
}

/// As far as it goes without waiting, but not for so long that the other way starves.
static void advance(struct way *w) {
  for (int turn = 0; turn < 16 && !w->ended; turn++) {
    if (waits_to_write(w)) {
      if (!write_some(w)) return;
    } else if (w->sourceEnded) {
      shutdown(w->to, SHUT_WR);
      w->ended = true;
    } else if (!read_some(w)) {
      return;
    }
  }
}

/// Whether nothing can be sent to `socket` any more. Asked with POLLOUT alone: with POLLIN, macOS reports an end of
/// file as POLLHUP too, after which a side may well still read.
static bool is_gone(int socket) {
  struct pollfd writable = {.fd = socket, .events = POLLOUT};
  return poll(&writable, 1, 0) > 0 && (writable.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/// While a side is not read, its end is not noticed by reading: look, once in a while.
static void notice_who_is_gone(struct way *a, struct way *b) {
  if (!b->ended && !waits_to_read(a) && is_gone(b->to)) give_up(b);
  if (!a->ended && !waits_to_read(b) && is_gone(a->to)) give_up(a);
}

static void wait_for(struct way *a, struct way *b) {
  struct pollfd fds[2] = {{.fd = a->from}, {.fd = b->from}};
  if (waits_to_read(a)) fds[0].events |= POLLIN;
  if (waits_to_write(b)) fds[0].events |= POLLOUT;
  if (waits_to_read(b)) fds[1].events |= POLLIN;
  if (waits_to_write(a)) fds[1].events |= POLLOUT;
  // A hang-up is reported whether it was asked for or not, again and again.
  for (int i = 0; i < 2; i++)
    if (fds[i].events == 0) fds[i].fd = -1;
  bool bothRead = waits_to_read(a) && waits_to_read(b);
  if (poll(fds, 2, bothRead ? -1 : 1000) == 0) notice_who_is_gone(a, b);
}

static bool prepare(struct way *w, const char *first, size_t length) {
  fcntl(w->from, F_SETFL, fcntl(w->from, F_GETFL) | O_NONBLOCK);
  w->buffer = malloc(RelayBufferBytes);
  if (w->buffer == NULL) return false;
  memcpy(w->buffer, first, length);
  w->end = length;
  return true;
}

int relay(int client, int guest, const char *toClient, size_t toClientLength, const char *toGuest,
          size_t toGuestLength) {
  struct way out = {.from = client, .to = guest};
  struct way back = {.from = guest, .to = client};
  bool ready = prepare(&out, toGuest, toGuestLength) && prepare(&back, toClient, toClientLength);
  while (ready && !(out.ended && back.ended)) {
    advance(&out);
    advance(&back);
    if (!out.ended || !back.ended) wait_for(&out, &back);
  }
  free(out.buffer);
  free(back.buffer);
  return ready;
}
