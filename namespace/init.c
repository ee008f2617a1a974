/* Process 1 of a guest: makes Nix's database, runs the nix-daemon and ends with it, and starts the supervisor's
 * commands. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

noreturn void run_program(char *const words[]) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  setsid();
  syscall(SYS_close_range, 3, ~0U, 0);
  execvp(words[0], words);
  dprintf(2, "drover: %s: %m\n", words[0]);
  _exit(127);
}

pid_t start_program(char *const words[], int *input, int *output, int *error) {
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) return -1;
  pid_t pid = fork();
  if (pid < 0) return -1;
  if (pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    run_program(words);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  *input = in[1], *output = out[0], *error = err[0];
  return pid;
}

/* Only process 1 itself lives by descriptor 0. */
static void no_input(void) {
  int null = (int)must(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
  must(dup2(null, LIFE), "dup2");
  close(null);
}

/*
 * Nix makes the database when it is first used; connections that come at the same time would each make it, and some
 * fail.
 */
static pid_t make_database(void) {
  pid_t pid = fork();
  if (pid != 0) return (pid_t)must(pid, "fork");
  no_input();
  dup2(CONSOLE, 1);
  run_program((char *const[]){"nix-store", "--load-db", NULL});
}

/* It listens on a socket of the supervisor's, as one that systemd starts. */
static pid_t start_daemon(int daemon_socket) {
  pid_t pid = fork();
  if (pid != 0) return (pid_t)must(pid, "fork");
  char self[16];
  snprintf(self, sizeof self, "%d", getpid());
  setenv("LISTEN_PID", self, 1);
  setenv("LISTEN_FDS", "1", 1);
  no_input();
  dup2(CONSOLE, 1);
  /* Not run_program, which closes it; descriptor 3 is the first that systemd gives. */
  must(daemon_socket == 3 ? fcntl(3, F_SETFD, 0) : dup2(daemon_socket, 3), "dup2");
  syscall(SYS_close_range, 4, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  execvp("nix-daemon", (char *const[]){"nix-daemon", NULL});
  die("nix-daemon");
}

static void report_if_ready(pid_t database, int network) {
  static int reported;
  if (reported || database > 0 || network >= 0) return;
  must(write(REPORT, "ready\n", 6), "report");
  close(REPORT);
  reported = 1;
}

noreturn void run_init(int daemon_socket, int agent_socket, int network) {
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  sigaddset(&handled, SIGTERM);
  sigprocmask(SIG_SETMASK, &handled, NULL);
  int signals = (int)must(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
  pid_t database = make_database(), daemon = start_daemon(daemon_socket);
  close(daemon_socket);
  for (;;) {
    struct pollfd waits[] = {
        {.fd = LIFE, .events = POLLIN},
        {.fd = signals, .events = POLLIN},
        {.fd = agent_socket, .events = POLLIN},
        {.fd = network, .events = POLLIN},
    };
    if (poll(waits, 4, -1) < 0 && errno != EINTR) die("poll");
    char byte;
    if (waits[3].revents) {
      if (read(network, &byte, 1) != 1) exit(1); /* it has said why */
      close(network);
      network = -1;
    }
    if (waits[0].revents && read(LIFE, &byte, 1) <= 0) exit(0);
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info)
      if (info.ssi_signo == SIGTERM) exit(0);
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      if (pid == daemon) exit(code);
      if (pid != database) continue;
      if (code != 0) exit(code);
      database = 0;
    }
    report_if_ready(database, network);
    if (!waits[2].revents) continue;
    int connection = accept4(agent_socket, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0) continue;
    pid_t agent = fork();
    if (agent == 0) {
      no_input();
      close(agent_socket);
      serve_command(connection);
    }
    close(connection); /* also if there is no process left: the supervisor sees its end */
  }
}
