#define _GNU_SOURCE
#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

/* Addresses that no guest reaches: link-local ones, where clouds tell machines their secrets, and what stands for the
 * host's loopback in slirp4netns' network. */
static void refuse_addresses(int s) {
  static const struct {
    const char *address, *mask;
  } refused[] = {{"169.254.0.0", "255.255.0.0"}, {"100.100.100.200", "255.255.255.255"}};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    struct rtentry route = {.rt_flags = RTF_UP | RTF_REJECT};
    struct sockaddr_in *to = (struct sockaddr_in *)&route.rt_dst, *mask = (struct sockaddr_in *)&route.rt_genmask;
    to->sin_family = mask->sin_family = AF_INET;
    inet_aton(refused[i].address, &to->sin_addr);
    inet_aton(refused[i].mask, &mask->sin_addr);
    must(ioctl(s, SIOCADDRT, &route), "route");
  }
}

void make_network(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  int s = (int)must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  must(ioctl(s, SIOCSIFFLAGS, &request), "lo");
  refuse_addresses(s);
  close(s);
}

struct slirp prepare_slirp(const char *program) {
  struct slirp slirp = {.program = program};
  must(pipe2(slirp.go, O_CLOEXEC), "pipe");
  must(pipe2(slirp.ready, O_CLOEXEC), "pipe");
  return slirp;
}

noreturn void become_slirp(const struct slirp *slirp, pid_t network_of, int own_users, int life) {
  enum { READY = REPORT, EXIT };
  char byte, target[64];
  close(slirp->go[1]);
  if (read(slirp->go[0], &byte, 1) != 1) _exit(1);
  /* In a user namespace its sandbox works with a process only, in the host's with a path only. */
  snprintf(target, sizeof target, own_users ? "%d" : "/proc/%d/ns/net", network_of);
  /* Above all the numbers that they get here. */
  int ready = (int)must(fcntl(slirp->ready[1], F_DUPFD_CLOEXEC, EXIT + 1), "dup");
  int until = life < 0 ? -1 : (int)must(fcntl(life, F_DUPFD_CLOEXEC, EXIT + 1), "dup");
  /* Its chatter at each start goes nowhere, its errors to the console. */
  int null = (int)must(open("/dev/null", O_RDWR), "/dev/null");
  must(dup2(null, 0), "dup2");
  must(dup2(null, 1), "dup2");
  must(dup2(ready, READY), "dup2");
  if (until >= 0) must(dup2(until, EXIT), "dup2");
  syscall(SYS_close_range, until < 0 ? EXIT : EXIT + 1, ~0U, 0);
  /* Its sandbox moves the root, which no mount may be shared for: systemd's PrivateTmp shares /tmp. */
  if (!own_users) {
    must(unshare(CLONE_NEWNS), "unshare");
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  const char *words[] = {"slirp4netns", "--configure", "--mtu=65520", "--ready-fd=3", "--disable-host-loopback",
                         "--disable-dns", "--enable-sandbox", "--enable-seccomp",
                         own_users ? "--netns-type=pid" : "--netns-type=path",
                         target, "tap0", until < 0 ? NULL : "--exit-fd=4", NULL};
  execv(slirp->program, (char **)words);
  die(slirp->program);
}

static void write_own(const char *path, const char *text) {
  int file = (int)must(open(path, O_WRONLY | O_CLOEXEC), path);
  must(write(file, text, strlen(text)), path);
  close(file);
}

/* A user namespace in which only this user exists, as root, which slirp4netns expects: without it, only the host's root
 * may make a network. */
static void leave_users(void) {
  uid_t uid = geteuid();
  gid_t gid = getegid();
  char map[64];
  must(unshare(CLONE_NEWUSER), "user namespace");
  write_own("/proc/self/setgroups", "deny");
  snprintf(map, sizeof map, "0 %u 1\n", uid);
  write_own("/proc/self/uid_map", map);
  snprintf(map, sizeof map, "0 %u 1\n", gid);
  write_own("/proc/self/gid_map", map);
}

/* Shows FILE, and what replaces it later, where systemd-resolved has the address of its own resolver, which listens on
 * the host's loopback. */
static void use_resolvers(const char *file) {
  static const char directory[] = "/run/systemd/resolve";
  int real = (int)must(syscall(SYS_open_tree, AT_FDCWD, directory, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), directory);
  must(mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=755"), directory);
  must(chdir(directory), directory);
  must(mkdir("real", 0755), "real");
  must(syscall(SYS_move_mount, real, "", AT_FDCWD, "real", MOVE_MOUNT_F_EMPTY_PATH), "real");
  close(real);
  char target[256];
  const char *name = strrchr(file, '/');
  snprintf(target, sizeof target, "real/%s", name ? name + 1 : file);
  must(symlink(target, "stub-resolv.conf"), "stub-resolv.conf");
  must(chdir("/"), "/");
}

/* Waits for slirp4netns, and ends PROGRAM, which has no network without it. */
static noreturn void keep_slirp(const struct slirp *slirp, pid_t program, int own_users, const int life[2], char **words) {
  close(life[1]);
  /* Else ps shows PROGRAM twice. */
  for (; *words; words++) memset(*words, 0, strlen(*words));
  pid_t pid = (pid_t)must(fork(), "fork");
  if (pid == 0) become_slirp(slirp, program, own_users, life[0]);
  must(dup2((int)must(open("/dev/null", O_RDWR), "/dev/null"), 0), "dup2");
  must(dup2(CONSOLE, 1), "dup2");
  syscall(SYS_close_range, CONSOLE + 1, ~0U, 0);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (status != 0 && getppid() == program) {
    dprintf(CONSOLE, "drover-namespace: slirp4netns has ended (status %d)\n", status);
    kill(program, SIGKILL);
  }
  _exit(0);
}

noreturn void run_outbound(char **words) {
  errno = EINVAL;
  if (!words[0] || !words[1] || !words[2]) die("outbound");
  must(prctl(PR_SET_PDEATHSIG, SIGKILL), "pdeathsig");
  int own_users = geteuid() != 0, life[2];
  pid_t self = getpid();
  struct slirp slirp = prepare_slirp(words[0]);
  must(pipe2(life, O_CLOEXEC), "pipe");
  if (must(fork(), "fork") == 0) keep_slirp(&slirp, self, own_users, life, words + 2);
  if (own_users) leave_users();
  must(unshare(CLONE_NEWNET | CLONE_NEWNS), "network namespace");
  must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
  /* Undone by the user namespace; slirp4netns opens this process's namespaces. */
  must(prctl(PR_SET_PDEATHSIG, SIGKILL), "pdeathsig");
  must(prctl(PR_SET_DUMPABLE, 1), "dumpable");
  make_network();
  if (words[1][0] == '/') use_resolvers(words[1]);
  char byte;
  must(write(slirp.go[1], "", 1), "slirp4netns");
  close(slirp.ready[1]);
  errno = ECHILD;
  if (read(slirp.ready[0], &byte, 1) != 1) die("slirp4netns");
  if (own_users)
    for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++) continue;
  /* The program has this end: slirp4netns ends after it. */
  must(fcntl(life[1], F_SETFD, 0), "pipe");
  execv(words[2], words + 2);
  die(words[2]);
}
