/*
 * drover-connect SOCKET [ARG...]
 *
 * Connects standard input and output to a Unix socket: the `remote-program` of the socket door. Nix starts one for
 * each connection, so it has to start in no time; further arguments (Nix adds `--stdio`) are ignored.
 *
 * Ends when the socket does. The end of standard input is passed on as the end of what is sent.
 * Exit status: 0 done, 1 connection failed or broken (why: standard error), 2 wrong usage.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BUFFER_BYTES = 256 * 1024 };

static char buffer[BUFFER_BYTES];

static int fail(const char *what) {
  fprintf(stderr, "drover-connect: %s: %s\n", what, strerror(errno));
  return 1;
}

/* Moves what is there from one descriptor to the other. 1: moved, 0: end of input, -1: failed. */
static int move(int from, int to) {
  ssize_t got = read(from, buffer, sizeof buffer);
  if (got < 0) return errno == EINTR || errno == EAGAIN ? 1 : -1;
  for (ssize_t done = 0; done < got;) {
    ssize_t put = write(to, buffer + done, (size_t)(got - done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -1;
    done += put;
  }
  return got > 0;
}

static int open_socket(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
  }
  return fd;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: drover-connect SOCKET\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  int fd = open_socket(argv[1]);
  if (fd < 0) {
    fprintf(stderr, "drover-connect: cannot reach Drover at %s: %s%s\n", argv[1], strerror(errno),
            errno == ENOENT || errno == ECONNREFUSED ? " (is `drover serve` running?)"
            : errno == EACCES                        ? " (only its owner may use it)"
                                                     : "");
    return 1;
  }
  struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return fail("poll");
    }
    if (fds[1].revents != 0) {
      int moved = move(fd, STDOUT_FILENO);
      if (moved == 0) return 0;
      if (moved < 0) return errno == EPIPE || errno == ECONNRESET ? 0 : fail("from the socket");
    }
    if (fds[0].revents != 0) {
      int moved = move(STDIN_FILENO, fd);
      if (moved < 0) return errno == EPIPE ? 0 : fail("to the socket");
      if (moved == 0) {
        shutdown(fd, SHUT_WR);
        fds[0].fd = -1; /* poll ignores it from now on */
      }
    }
  }
}
