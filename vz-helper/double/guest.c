#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t guest_start(const char *program, const char *file, int console, int typed) {
  int failure[2];
  if (pipe2(failure, O_CLOEXEC) != 0) return -1;
  pid_t guest = fork();
  if (guest == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    int input = typed < 0 ? open("/dev/null", O_RDONLY) : typed;
    if (dup2(input, 0) == 0 && dup2(console, 1) == 1 && dup2(console, 2) == 2) {
      fcntl(failure[1], F_DUPFD_CLOEXEC, 3);
      close_range(3, (unsigned)failure[1] - 1, CLOSE_RANGE_CLOEXEC);
      close_range((unsigned)failure[1] + 1, ~0U, CLOSE_RANGE_CLOEXEC);
      execl(program, program, file, NULL);
    }
    if (write(failure[1], &errno, sizeof errno) < 0) _exit(126);
    _exit(127);
  }
  close(failure[1]);
  int error = 0;
  if (guest > 0 && read(failure[0], &error, sizeof error) > 0) {
    waitpid(guest, NULL, 0);
    guest = -1;
    errno = error;
  }
  close(failure[0]);
  return guest;
}

int guest_wait(pid_t guest) {
  int status = 0;
  while (waitpid(guest, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int guest_connect(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0) return -1;
  if (connect(connection, (struct sockaddr *)&address, sizeof address) == 0) return connection;
  int saved = errno;
  close(connection);
  errno = saved;
  return -1;
}
