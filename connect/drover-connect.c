/*
 * drover-connect [SOCKET] [--stdio]
 *
 * Connects standard input and output to a Unix socket: the `remote-program` of the socket door. Nix starts
 * one for each connection, with `--stdio`, so it must start quickly. Without SOCKET it connects to the socket
 * beside it, named after the link that it was started by, with `.sock` appended: such a link needs neither
 * arguments nor a shell.
 * It ends when the socket does. The end of standard input is passed on as the end of the sent data.
 * Exit status: 0 done, 1 connection failed or broken (why: standard error), 2 wrong usage.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1024 * 1024 };

static char up[BUFFER_BYTES], down[BUFFER_BYTES];
static int fd;

static int fail(const char *what) {
  fprintf(stderr, "drover-connect: %s: %s\n", what, strerror(errno));
  return 1;
}

/* Copies one descriptor to the other. 0: to its end, -1: failed. */
static int copy(int from, int to, char *buffer) {
  for (;;) {
    ssize_t got = read(from, buffer, BUFFER_BYTES);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return (int)got;
    for (ssize_t done = 0; done < got;) {
      ssize_t put = write(to, buffer + done, (size_t)(got - done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return -1;
      done += put;
    }
  }
}

static int open_socket(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  if (s >= 0 && connect(s, (struct sockaddr *)&address, sizeof address) < 0) {
    int reason = errno;
    close(s);
    errno = reason;
    return -1;
  }
  return s;
}

/* If the socket fails, the other way notices too. */
static void *send_input(void *unused) {
  (void)unused;
  if (copy(STDIN_FILENO, fd, up) < 0 && errno != EPIPE && errno != ECONNRESET) fail("to the socket");
  shutdown(fd, SHUT_WR);
  return NULL;
}

/* Opens PROGRAM.sock, from within its directory: the paths of sockets are short. */
static int open_own_socket(const char *path) {
  char directory[PATH_MAX];
  strcpy(directory, path);
  char *slash = strrchr(directory, '/');
  slash[slash == directory] = '\0';
  return chdir(directory) == 0 ? open_socket(strrchr(path, '/') + 1) : -1;
}

int main(int argc, char **argv) {
  int is_named = argc > 1 && argv[1][0] != '-';
  char own[PATH_MAX];
  const char *path = is_named ? argv[1] : own;
  if (!is_named && (strchr(argv[0], '/') == NULL || snprintf(own, sizeof own, "%s.sock", argv[0]) >= PATH_MAX)) {
    fprintf(stderr, "usage: drover-connect SOCKET\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  fd = is_named ? open_socket(path) : open_own_socket(path);
  if (fd < 0) {
    fprintf(stderr, "drover-connect: cannot reach Drover at %s: %s%s\n", path, strerror(errno),
            errno == ENOENT || errno == ECONNREFUSED ? " (is `drover serve` running?)"
            : errno == EACCES                        ? " (only its owner may use it)"
                                                     : "");
    return 1;
  }
#ifdef F_SETPIPE_SZ
  fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1048576);
#endif
  /* A thread for each direction: a single one would block when both ends wait to be read. */
  pthread_t sender;
  if ((errno = pthread_create(&sender, NULL, send_input, NULL)) != 0) return fail("thread");
  if (copy(fd, STDOUT_FILENO, down) == 0 || errno == EPIPE || errno == ECONNRESET) return 0;
  return fail("from the socket");
}
