/*
 * drover-connect [SOCKET] [--stdio]
 *
 * Connects standard input and output to a Unix socket: the `remote-program` of the socket door. Nix starts
 * one for each connection, with `--stdio`, so it must start quickly. Without SOCKET it connects to the socket
 * beside it, named after the link that it was started by, with `.sock` appended: such a link needs neither
 * arguments nor a shell.
 * It ends when the socket does, or up to 5 s later if standard input is still open. The end of standard input is passed
 * on as the end of the sent data.
 * Exit status: 0 done, 1 connection failed or broken (why: standard error), 2 wrong usage.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1024 * 1024, TURNS_IN_SILENCE = 20, LINGER_SECONDS = 5 };

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

/* If the socket fails, the other way notices too. What the client still writes is discarded: see main. */
static void *send_input(void *unused) {
  (void)unused;
  if (copy(STDIN_FILENO, fd, up) < 0) {
    if (errno != EPIPE && errno != ECONNRESET) fail("to the socket");
    while (read(STDIN_FILENO, up, sizeof up) > 0) continue;
  }
  shutdown(fd, SHUT_WR);
  return NULL;
}

static void leave(int unused) {
  (void)unused;
  _exit(0);
}

static long number_in(const char *file) {
  char text[16] = "";
  int from = open(file, O_RDONLY | O_CLOEXEC);
  if (from < 0) return 0;
  ssize_t got = read(from, text, sizeof text - 1);
  close(from);
  return got > 0 ? strtol(text, NULL, 10) : 0;
}

/* Milliseconds left of the time in which a supervisor that has ended may come back. */
static long grace_left(const char *name) {
  char down[NAME_MAX + 1], grace[NAME_MAX + 1];
  if (snprintf(down, sizeof down, "%s.down", name) > NAME_MAX || snprintf(grace, sizeof grace, "%s.grace", name) > NAME_MAX)
    return 0;
  /*
   * A killed supervisor left no such file: the first program that notices creates it, so that not all of them
   * wait again.
   */
  int made = open(down, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (made >= 0) close(made);
  struct stat ended;
  if (stat(down, &ended) != 0) return 0;
  long age = (long)(time(NULL) - ended.st_mtime) * 1000, total = number_in(grace);
  /* The clock was set back. */
  if (age < 0) age = 0;
  /* A second more, since times of files are rounded down to seconds here. */
  return total > 0 ? total + 1000 - age : 0;
}

static int is_absent(int reason) { return reason == ENOENT || reason == ECONNREFUSED; }

/* Opens PROGRAM.sock, from within its directory: the paths of sockets are short. */
static int open_own_socket(const char *path) {
  char directory[PATH_MAX], name[PATH_MAX];
  strcpy(directory, path);
  char *slash = strrchr(directory, '/');
  strcpy(name, slash + 1);
  name[strlen(name) - strlen(".sock")] = '\0';
  slash[slash == directory] = '\0';
  if (chdir(directory) != 0) return -1;
  const char *file = strrchr(path, '/') + 1;
  for (int turn = 0;; turn++) {
    int s = open_socket(file);
    if (s >= 0 || !is_absent(errno)) return s;
    int reason = errno;
    if (grace_left(name) <= 0) {
      errno = reason;
      return -1;
    }
    if (turn == TURNS_IN_SILENCE) fprintf(stderr, "drover-connect: Drover is restarting; waiting for it\n");
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
  }
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
            is_absent(errno)  ? " (Drover is not running: start its service, or `drover serve`; `drover doctor` says more)"
            : errno == EACCES ? " (only its owner may use it)"
                              : "");
    return 1;
  }
#ifdef F_SETPIPE_SZ
  fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1048576);
#endif
  /* A thread for each direction: a single one would block when both ends wait to be read. */
  pthread_t sender;
  if ((errno = pthread_create(&sender, NULL, send_input, NULL)) != 0) return fail("thread");
  if (copy(fd, STDOUT_FILENO, down) == 0) {
    /* The supervisor has ended the session. A client that is writing must read why, and not fail in its write. */
    close(STDOUT_FILENO);
    signal(SIGALRM, leave);
    alarm(LINGER_SECONDS);
    pthread_join(sender, NULL);
    return 0;
  }
  return errno == EPIPE || errno == ECONNRESET ? 0 : fail("from the socket");
}
