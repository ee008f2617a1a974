// The program of mac-truth's guest: a server on the ports that the host connects to, and what a shell cannot ask.
//
//   guest serve vsock|DIRECTORY COMMAND   ports 7 (echo), 9 (counts, and answers at the end of the input with the
//                                         number of bytes) and 11 (one line is an argument of COMMAND, whose output
//                                         comes back), on vsock or, in a rehearsal, as sockets DIRECTORY/PORT.sock
//   guest xattr FILE                      prints how listxattr and a lookup of an absent attribute end
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
// After sys/socket.h, which it needs.
#include <linux/vm_sockets.h>

static void die(const char *what) {
  fprintf(stderr, "truth: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int listen_on(const char *place, unsigned port) {
  struct sockaddr_vm vsock = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY};
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  int isVsock = !strcmp(place, "vsock");
  int listener = socket(isVsock ? AF_VSOCK : AF_UNIX, SOCK_STREAM, 0);
  if (!isVsock) snprintf(local.sun_path, sizeof local.sun_path, "%s/%u.sock", place, port);
  const struct sockaddr *address = isVsock ? (struct sockaddr *)&vsock : (struct sockaddr *)&local;
  if (listener < 0 || bind(listener, address, isVsock ? sizeof vsock : sizeof local)) die("bind");
  if (listen(listener, 1024)) die("listen");
  return listener;
}

static void echo(int connection) {
  char buffer[65536];
  for (ssize_t got; (got = read(connection, buffer, sizeof buffer)) > 0;)
    for (ssize_t sent = 0, n; sent < got; sent += n)
      if ((n = write(connection, buffer + sent, (size_t)(got - sent))) <= 0) return;
}

static void count(int connection) {
  char buffer[65536];
  unsigned long long bytes = 0;
  for (ssize_t got; (got = read(connection, buffer, sizeof buffer)) > 0;) bytes += (unsigned long long)got;
  dprintf(connection, "%llu\n", bytes);
}

static void command(int connection, const char *program) {
  char line[256];
  size_t length = 0;
  while (length < sizeof line - 1 && read(connection, line + length, 1) == 1 && line[length] != '\n') length++;
  line[length] = 0;
  dup2(connection, 1);
  dup2(connection, 2);
  execl("/bin/sh", "sh", program, line, NULL);
  die("sh");
}

static void serve(const char *place, unsigned port, const char *program) {
  int listener = listen_on(place, port);
  if (fork()) {
    close(listener);
    return;
  }
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) continue;
    if (fork() == 0) {
      close(listener);
      signal(SIGCHLD, SIG_DFL);
      if (port == 7) echo(connection);
      else if (port == 9) count(connection);
      else command(connection, program);
      _exit(0);
    }
    close(connection);
  }
}

static int xattr(const char *file) {
  char names[4096];
  ssize_t length = listxattr(file, names, sizeof names);
  printf("listxattr: %s", length < 0 ? strerror(errno) : length == 0 ? "none" : "");
  for (ssize_t i = 0; i < length; i += (ssize_t)strlen(names + i) + 1) printf("%s ", names + i);
  length = getxattr(file, "trusted.overlay.opaque", names, sizeof names);
  printf("; getxattr: %s\n", length < 0 ? strerror(errno) : "found");
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "xattr")) return xattr(argv[2]);
  if (argc != 4 || strcmp(argv[1], "serve")) return 2;
  for (unsigned port = 7; port <= 11; port += 2) serve(argv[2], port, argv[3]);
  printf("truth: the guest is up\n");
  fflush(stdout);
  while (wait(NULL) > 0 || errno == EINTR) continue;
  return 0;
}
