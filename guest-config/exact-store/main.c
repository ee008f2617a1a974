// exact-store: a read-only FUSE file system between the host's store, shared by VirtioFS, and the overlay on
// /nix/store.
//
//   exact-store mount SOURCE MOUNTPOINT SOCKET   mounts; returns once it is mounted, and goes on in the background
//   exact-store register SOCKET STORE FD         see control.h
//   exact-store status SOCKET
//   exact-store list PATH... | exact-store show SOCKET literal|case-hack   see tools.h
//
// It shows the paths that it was told of, each exactly as listed. Names and attributes come from the listings; only
// files that are read are opened in SOURCE. Whatever fails there is EIO, never an absent file: builds remember what is
// absent. When it ends, so does the machine.
#define _GNU_SOURCE
#include "control.h"
#include "requests.h"
#include "say.h"
#include "source.h"
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

enum { Threads = 8, StackBytes = 256 * 1024, ReadAheadKib = 1024, Descriptors = 4096 };
static unsigned long maxListingBytes;

void say(const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  dprintf(2, "drover: exact-store: %s\n", line);
}

/// The kernel reads ahead by 128 KiB otherwise.
static void read_ahead(const char *mountpoint) {
  struct stat status;
  char path[64];
  if (stat(mountpoint, &status)) return;
  snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(status.st_dev), minor(status.st_dev));
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  dprintf(fd, "%d", ReadAheadKib);
  close(fd);
}

/// Memory that builds need is never taken from this process: they could not go on without it.
static void protect(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "-1000", 5) != 5) say("cannot be kept from the OOM killer: %s", strerror(errno));
  if (fd >= 0) close(fd);
  if (mlockall(MCL_CURRENT | MCL_FUTURE)) say("cannot be locked in memory: %s", strerror(errno));
  struct rlimit limit = {Descriptors, Descriptors};
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void *worker(void *unused) {
  requests_serve();
  exit(0); // unmounted
  return unused;
}
static void power_off(void) {
  reboot(RB_POWER_OFF);
  exit(1);
}
/// The guardian holds the other end.
static void *watch_guardian(void *pipe) {
  char byte;
  while (read((int)(intptr_t)pipe, &byte, 1) < 0 && errno == EINTR) continue;
  say("its guardian has ended: so does this guest");
  power_off();
  return NULL;
}
static void *controller(void *listener) {
  control_serve((int)(intptr_t)listener, maxListingBytes);
  return NULL;
}
static void *janitor(void *unused) {
  for (;;) {
    sleep(1);
    source_rest();
  }
  return unused;
}

static void start(void *(*run)(void *), void *argument) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, StackBytes);
  int error = pthread_create(&thread, &attributes, run, argument);
  if (error) {
    say("no thread: %s", strerror(error));
    exit(1);
  }
}

// / Without its store a build would see errors that it may take for answers. The machine has to be off before one of
// them / ends well.
static void guard(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) exit(0);
  int console = open("/dev/console", O_WRONLY);
  if (console >= 0) dup2(console, 2);
  say("has ended (%s %d): so does this guest", WIFSIGNALED(status) ? "signal" : "exit status",
      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  power_off();
}

static void run(const char *source, const char *mountpoint, int listener, int guardian, int ready) {
  protect();
  if (!requests_greet()) {
    say("this kernel's FUSE is too old");
    exit(1);
  }
  for (int i = 0; i < Threads; i++) start(worker, NULL);
  start(janitor, NULL);
  start(controller, (void *)(intptr_t)listener);
  start(watch_guardian, (void *)(intptr_t)guardian);
  read_ahead(source);
  read_ahead(mountpoint);
  if (write(ready, "r", 1) != 1) exit(1);
  close(ready);
  for (;;) pause();
}

static int fail(const char *what) {
  say("%s: %s", what, strerror(errno));
  return 1;
}

static int mount_store(char **argv) {
  const char *source = argv[2], *mountpoint = argv[3];
  struct sysinfo memory;
  maxListingBytes = sysinfo(&memory) ? 64UL << 20 : (unsigned long)memory.totalram * memory.mem_unit / 8;
  mallopt(M_ARENA_MAX, 1);
  if (!source_open(source)) return fail(source);
  int listener = control_listen(argv[4]);
  if (listener < 0) return fail(argv[4]);
  if (!requests_mount(mountpoint)) return fail(mountpoint);
  int ready[2], alive[2];
  if (pipe2(ready, O_CLOEXEC) || pipe2(alive, O_CLOEXEC)) return fail("pipe");
  pid_t guardian = fork();
  if (guardian < 0) return fail("fork");
  if (guardian > 0) {
    char byte;
    close(ready[1]);
    return read(ready[0], &byte, 1) == 1 ? 0 : 1;
  }
  setsid();
  signal(SIGPIPE, SIG_IGN);
  argv[0][0] = '@'; // systemd's sign for what must survive the change from the initrd to the root file system
  pid_t child = fork();
  if (child < 0) exit(fail("fork"));
  if (child == 0) {
    close(alive[1]);
    run(source, mountpoint, listener, alive[0], ready[1]);
  }
  close(ready[1]);
  close(listener);
  requests_close();
  protect();
  guard(child);
  return 1;
}

int main(int argc, char **argv) {
  if (argc == 5 && !strcmp(argv[1], "mount")) return mount_store(argv);
  if (argc == 5 && !strcmp(argv[1], "register")) return control_register(argv[2], argv[3], atoi(argv[4]));
  if (argc == 3 && !strcmp(argv[1], "status")) return control_status(argv[2]);
  if (argc >= 3 && !strcmp(argv[1], "list")) return tools_list(argv + 2);
  if (argc == 4 && !strcmp(argv[1], "show")) return tools_show(argv[2], argv[3]);
  fputs("usage: exact-store mount SOURCE MOUNTPOINT SOCKET | register SOCKET STORE FD | status SOCKET |\n"
        "       list PATH... | show SOCKET literal|case-hack\n", stderr);
  return 2;
}
