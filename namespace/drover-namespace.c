/*
 * drover-namespace NAME=VALUE...: boots a guest of the namespace driver, and ends when the guest has.
 *
 *   image=DIR etc=DIR store=DIR   the guest's root, its /etc, and the host's store: all read-only
 *   dir=DIR                       the guest's directory: `root` to mount on; sockets `nix` and `run` are made in it
 *   scratch=BYTES name=NAME
 *   disk=FILE                     with an ext4 file system for the scratch, which is in memory otherwise
 *   network=host|outbound|none
 *   slirp=PROGRAM                 slirp4netns, for network=outbound
 *   ids=N locks=FILE              with a user namespace: number of user ids, and the file with their locks
 *   gid=N                         group of the build users, in the guest
 *   kvm=1                         with /dev/kvm
 *   sys=1                         with /sys, which builds that have user ids of their own mount
 *   cgroups=DIR[:DIR...]          cgroups to put the guest into
 *   bind=DIR bind-ro=DIR          a directory of the host that the guest has at the same path; up to 16 of them
 *   probe=1                       only try whether this host can do it
 * drover-namespace outbound SLIRP RESOLVERS PROGRAM ARG...: see network.h.
 *
 * This process stays outside of the guest, as the host's root. It makes the guest's whole tree of mounts, so that
 * nothing in it can be unmounted or made writable from within, and then starts process 1 (init.c) in namespaces of a
 * user namespace in which root is a user that exists nowhere else on the host.
 *
 * Descriptors: see common.h. SIGTERM kills the guest.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "network.h"

/* Systemd's documentation (UIDs and GIDs on systemd systems) has this range as unused. */
enum { FIRST_ID = 0x70000000, ID_SLOT = 65536, ID_SLOTS = 4096 };
enum { RDONLY = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };

static struct {
  const char *image, *etc, *store, *dir, *scratch, *disk, *name, *network, *slirp, *ids, *locks, *gid, *kvm, *sys, *cgroups, *probe;
} given;

enum { MAX_BINDS = 16 };
static struct {
  const char *directory;
  int read_only, tree;
  unsigned uid, gid;
} binds[MAX_BINDS];
static int bind_count;

noreturn void die(const char *what) {
  dprintf(CONSOLE, "drover-namespace: %s: %s\n", what, strerror(errno));
  _exit(1);
}

long must(long result, const char *what) {
  if (result < 0) die(what);
  return result;
}

static void parse(char *const *arguments) {
  static const struct {
    const char *name;
    const char **value;
  } names[] = {
      {"image", &given.image}, {"etc", &given.etc},         {"store", &given.store}, {"dir", &given.dir},
      {"scratch", &given.scratch}, {"disk", &given.disk}, {"name", &given.name}, {"network", &given.network}, {"slirp", &given.slirp}, {"ids", &given.ids},
      {"locks", &given.locks}, {"gid", &given.gid},       {"kvm", &given.kvm}, {"sys", &given.sys}, {"cgroups", &given.cgroups}, {"probe", &given.probe},
  };
  for (; *arguments; arguments++) {
    size_t i = 0, count = sizeof names / sizeof *names, length = strcspn(*arguments, "=");
    while (i < count && (strncmp(*arguments, names[i].name, length) != 0 || names[i].name[length] != '\0')) i++;
    errno = EINVAL;
    if (strncmp(*arguments, "bind=", 5) == 0 || strncmp(*arguments, "bind-ro=", 8) == 0) {
      if (bind_count == MAX_BINDS) die("too many directories");
      binds[bind_count].read_only = (*arguments)[4] == '-';
      binds[bind_count++].directory = *arguments + length + 1;
      continue;
    }
    if (i == count || (*arguments)[length] == '\0') die(*arguments);
    *names[i].value = *arguments + length + 1;
  }
}

/* Takes ids that no other guest of this host has, for as long as this process lives. */
static unsigned take_ids(unsigned count) {
  int file = (int)must(open(given.locks, O_RDWR | O_CREAT | O_CLOEXEC, 0600), given.locks);
  unsigned slots = (count + ID_SLOT - 1) / ID_SLOT;
  for (unsigned slot = 0; slot + slots <= ID_SLOTS; slot += slots) {
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = slots};
    if (fcntl(file, F_OFD_SETLK, &range) == 0) return FIRST_ID + slot * ID_SLOT;
  }
  errno = EAGAIN;
  die("all user ids for guests are taken");
}

static void write_file(pid_t pid, const char *name, const char *text) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  int file = (int)must(open(path, O_WRONLY | O_CLOEXEC), path);
  must(write(file, text, strlen(text)), path);
  close(file);
}

/* In cgroup v2 the guest's root may make cgroups below its own, as Nix does for builds. */
static void delegate(const char *directory, unsigned root) {
  static const char *const files[] = {"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"};
  char path[4200];
  snprintf(path, sizeof path, "%s/cgroup.subtree_control", directory);
  for (size_t i = 0; i < sizeof files / sizeof *files && access(path, F_OK) == 0; i++) {
    char file[4200];
    snprintf(file, sizeof file, "%s/%s", directory, files[i]);
    must(chown(file, root, root), file);
  }
}

static void enter_cgroups(pid_t pid, unsigned root) {
  char text[4096], process[16];
  if (snprintf(text, sizeof text, "%s", given.cgroups) >= (int)sizeof text) errno = ENAMETOOLONG, die("cgroups");
  snprintf(process, sizeof process, "%d", pid);
  for (char *rest = text, *directory; (directory = strsep(&rest, ":"));) {
    char path[4200];
    snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    int file = (int)must(open(path, O_WRONLY | O_CLOEXEC), path);
    must(write(file, process, strlen(process)), path);
    close(file);
    delegate(directory, root);
  }
}

/* A socket in the guest's directory, which the guest does not see. */
static int listen_at(const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, name);
  int s = (int)must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  must(bind(s, (struct sockaddr *)&address, sizeof address), name);
  must(chmod(name, 0600), name);
  must(listen(s, 4096), name);
  return s;
}

static int detached(const char *path) {
  return (int)must(syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), path);
}

/* Attaches a tree of the host, read-only; its owners are the guest's where its file system can do that. */
static void attach(int tree, const char *to, int user_namespace) {
  struct mount_attr attributes = {.attr_set = RDONLY | MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user_namespace};
  if (user_namespace < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) {
    if (user_namespace >= 0) dprintf(CONSOLE, "drover-namespace: %s is shown as nobody's: its file system cannot be idmapped\n", to);
    attributes = (struct mount_attr){.attr_set = RDONLY};
    must(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes), to);
  }
  must(syscall(SYS_move_mount, tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH), to);
}

static void make_dir(const char *path, unsigned uid, unsigned gid, unsigned mode) {
  must(mkdir(path, 0700), path);
  must(chown(path, uid, gid), path);
  must(chmod(path, mode), path);
}

/* Opens the directories that a person gives the guest. No link on the way is followed: its owner could change it. */
static void open_binds(void) {
  struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
  for (int i = 0; i < bind_count; i++) {
    const char *path = binds[i].directory;
    int directory = (int)must(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how), path);
    struct stat owner;
    must(fstat(directory, &owner), path);
    binds[i].uid = owner.st_uid;
    binds[i].gid = owner.st_gid;
    binds[i].tree = (int)must(
        syscall(SYS_open_tree, directory, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH), path);
    close(directory);
  }
}

/* A user namespace for idmapped mounts, in which one user and one group of the host are the guest's root. */
static int owner_namespace(unsigned uid, unsigned gid, unsigned root) {
  int go[2];
  must(pipe2(go, O_CLOEXEC), "pipe");
  pid_t pid = (pid_t)must(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL), "clone");
  if (pid == 0) {
    char byte;
    close(go[1]);
    _exit(read(go[0], &byte, 1) != 0);
  }
  char map[64], path[64];
  snprintf(map, sizeof map, "%u %u 1\n", uid, root);
  write_file(pid, "uid_map", map);
  snprintf(map, sizeof map, "%u %u 1\n", gid, root);
  write_file(pid, "gid_map", map);
  snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
  int namespace = (int)must(open(path, O_RDONLY | O_CLOEXEC), path);
  close(go[0]);
  close(go[1]);
  must(waitpid(pid, NULL, 0), "wait");
  return namespace;
}

/* A file system for a root in which directories can be made, unlike in the image. */
static int new_root(unsigned root) {
  int context = (int)must(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC), "tmpfs");
  must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "mode", "0755", 0), "tmpfs");
  must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", "1m", 0), "tmpfs");
  must(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "tmpfs");
  int tree = (int)must(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), "tmpfs");
  must(fchownat(tree, "", root, root, AT_EMPTY_PATH), "tmpfs");
  close(context);
  return tree;
}

/* Attaches such a root, with the directories of the image in it. */
static void attach_image(int tree, int user_namespace, unsigned root) {
  must(syscall(SYS_move_mount, tree, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH), "root");
  must(fchdir(tree), "root");
  DIR *image = opendir(given.image);
  if (!image) die(given.image);
  for (struct dirent *entry; (entry = readdir(image));) {
    if (entry->d_name[0] == '.') continue;
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", given.image, entry->d_name);
    make_dir(entry->d_name, root, root, 0755);
    /* Root's own directory stays one in which others can be made. */
    if (strcmp(entry->d_name, "root") == 0) continue;
    int part = detached(path);
    attach(part, entry->d_name, user_namespace);
    close(part);
  }
  closedir(image);
}

static void attach_binds(int tree, int user_namespace, unsigned root) {
  for (int i = 0; i < bind_count; i++) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/", binds[i].directory + 1) >= (int)sizeof path) errno = ENAMETOOLONG, die(binds[i].directory);
    for (char *slash = path; (slash = strchr(slash, '/')); *slash++ = '/') {
      *slash = '\0';
      if (access(path, F_OK) < 0) make_dir(path, root, root, 0755);
    }
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    if (binds[i].read_only) attributes.attr_set |= MOUNT_ATTR_RDONLY;
    if (user_namespace >= 0) {
      attributes.attr_set |= MOUNT_ATTR_IDMAP;
      attributes.userns_fd = (uint64_t)owner_namespace(binds[i].uid, binds[i].gid, root);
    }
    must(syscall(SYS_mount_setattr, binds[i].tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes), binds[i].directory);
    must(syscall(SYS_move_mount, binds[i].tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH), binds[i].directory);
    close(binds[i].tree);
  }
  struct mount_attr fixed = {.attr_set = MOUNT_ATTR_RDONLY};
  must(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &fixed, sizeof fixed), "root");
}

static void bind_mount(const char *from, const char *to, unsigned long flags) {
  must(mount(from, to, NULL, MS_BIND, NULL), to);
  must(mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | flags, NULL), to);
}

/* Mounts the file system in a file. Its loop device is freed when the mount goes with the guest. */
static void mount_disk(const char *file, const char *to) {
  int disk = (int)must(open(file, O_RDWR | O_CLOEXEC | O_NOFOLLOW), file);
  int control = (int)must(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "/dev/loop-control");
  struct loop_config config = {.fd = (unsigned)disk, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
  for (int tries = 0; tries < 256; tries++) {
    char device[32];
    snprintf(device, sizeof device, "/dev/loop%d", (int)must(ioctl(control, LOOP_CTL_GET_FREE), "/dev/loop-control"));
    int loop = (int)must(open(device, O_RDWR | O_CLOEXEC), device);
    if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
      must(mount(device, to, "ext4", MS_NOSUID | MS_NODEV | MS_NOATIME, "discard"), device);
      close(loop);
      close(control);
      close(disk);
      return;
    }
    /* Another process has taken it meanwhile. */
    if (errno != EBUSY) die(device);
    close(loop);
  }
  errno = EBUSY;
  die("no loop device is free");
}

/* One scratch of a fixed size holds everything that is written: upper layer, database, build directories, /tmp. */
static void make_scratch(unsigned root) {
  char options[128];
  snprintf(options, sizeof options, "size=%s,mode=0755,uid=%u,gid=%u", given.scratch, root, root);
  if (given.disk) {
    mount_disk(given.disk, "run");
    rmdir("run/lost+found");
    must(chown("run", root, root), "scratch");
    must(chmod("run", 0755), "scratch");
  } else {
    must(mount("drover", "run", "tmpfs", MS_NOSUID | MS_NODEV, options), "scratch");
  }
  make_dir("run/upper", root, root + (unsigned)atol(given.gid), 01775);
  make_dir("run/work", 0, 0, 0700);
  make_dir("run/nix-var", root, root, 0755);
  make_dir("run/build", root, root, 0755);
  make_dir("run/tmp", root, root, 01777);
  static const char *const over[][2] = {{"run/nix-var", "nix/var"}, {"run/build", "build"}};
  for (int i = 0; i < 2; i++) bind_mount(over[i][0], over[i][1], MS_NOSUID | MS_NODEV);
  /* An image made from programs under /tmp keeps them there. */
  DIR *programs = opendir("tmp");
  for (struct dirent *entry; programs && (entry = readdir(programs));) {
    if (entry->d_name[0] == '.') continue;
    char from[300], to[300];
    snprintf(from, sizeof from, "tmp/%s", entry->d_name);
    snprintf(to, sizeof to, "run/tmp/%s", entry->d_name);
    make_dir(to, root, root, 0755);
    must(mount(from, to, NULL, MS_BIND, NULL), to);
  }
  if (programs) closedir(programs);
  must(mount("run/tmp", "tmp", NULL, MS_BIND | MS_REC, NULL), "tmp");
}

static void make_devices(void) {
  static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
  static const char *const links[][2] = {{"pts/ptmx", "dev/ptmx"},
                                         {"/proc/self/fd", "dev/fd"},
                                         {"fd/0", "dev/stdin"},
                                         {"fd/1", "dev/stdout"},
                                         {"fd/2", "dev/stderr"}};
  must(mount("dev", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k"), "dev");
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
    char from[32], to[32];
    snprintf(from, sizeof from, "/dev/%s", nodes[i]);
    snprintf(to, sizeof to, "dev/%s", nodes[i]);
    close((int)must(open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666), to));
    must(mount(from, to, NULL, MS_BIND, NULL), to);
  }
  /* All users of the guest may use it, whatever group the host's belongs to. */
  struct stat kvm;
  if (given.kvm && stat("/dev/kvm", &kvm) == 0) {
    if (mknod("dev/kvm", S_IFCHR | 0666, kvm.st_rdev) == 0) {
      must(chmod("dev/kvm", 0666), "dev/kvm");
    } else {
      close((int)must(open("dev/kvm", O_CREAT | O_WRONLY | O_CLOEXEC, 0666), "dev/kvm"));
      must(mount("/dev/kvm", "dev/kvm", NULL, MS_BIND, NULL), "dev/kvm");
    }
  }
  for (size_t i = 0; i < sizeof links / sizeof *links; i++) must(symlink(links[i][0], links[i][1]), links[i][1]);
  must(mkdir("dev/pts", 0755), "dev/pts");
  must(mkdir("dev/shm", 0755), "dev/shm");
  bind_mount("run/tmp", "dev/shm", MS_NOSUID | MS_NODEV);
  must(mount(NULL, "dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL), "dev");
}

/* Where the guest asks for the store's cache to be forgotten (drover-guest.sh), and is answered. */
static int ask, answer;

static int make_fifo(const char *path, unsigned owner) {
  must(mkfifo(path, 0600), path);
  must(chown(path, owner, owner), path);
  return (int)must(open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), path);
}

static void make_fifos(unsigned owner) {
  make_dir("run/drover", owner, owner, 0755);
  make_dir("run/drover/forget", owner, owner, 0700);
  ask = make_fifo("run/drover/forget/ask", owner);
  answer = make_fifo("run/drover/forget/answer", owner);
  /* Stays open, or what is in it is lost. */
  must(write(make_fifo("run/drover/forget/turn", owner), "\n", 1), "turn");
}

/* @returns a descriptor of the mounted store */
static int make_tree(int image, int etc, int store, int user_namespace, unsigned root) {
  if (bind_count > 0) attach_image(image, user_namespace, root);
  else attach(image, ".", user_namespace);
  must(fchdir(image), "root");
  make_scratch(root);
  attach(store, "nix/store", user_namespace);
  must(mount("overlay", "nix/store", "overlay", MS_NOSUID | MS_NODEV,
             "lowerdir=nix/store,upperdir=run/upper,workdir=run/work"), "overlay");
  attach(etc, "etc", user_namespace);
  make_devices();
  if (given.sys) must(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "sys");
  make_fifos(root);
  if (bind_count > 0) attach_binds(image, user_namespace, root);
  return (int)must(open("nix/store", O_PATH | O_CLOEXEC), "nix/store");
}

/* Neither Nix nor its builds need these, and without a user namespace they would reach the host: its clock, its
 * modules, its raw devices, files by their inodes. */
static void drop_capabilities(void) {
  static const int dropped[] = {CAP_SYS_TIME,  CAP_SYS_MODULE, CAP_SYS_RAWIO,  CAP_SYS_BOOT,      CAP_MAC_ADMIN,
                                CAP_SYSLOG,    CAP_WAKE_ALARM, CAP_SYS_PACCT,  CAP_BLOCK_SUSPEND, CAP_MAC_OVERRIDE,
                                CAP_AUDIT_READ, CAP_AUDIT_CONTROL, CAP_LINUX_IMMUTABLE, CAP_DAC_READ_SEARCH};
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct sets[2];
  must(syscall(SYS_capget, &header, sets), "capget");
  for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++) {
    must(prctl(PR_CAPBSET_DROP, dropped[i], 0, 0, 0), "bounding set");
    unsigned keep = ~(1U << dropped[i] % 32);
    sets[dropped[i] / 32].effective &= keep;
    sets[dropped[i] / 32].permitted &= keep;
    sets[dropped[i] / 32].inheritable &= keep;
  }
  must(syscall(SYS_capset, &header, sets), "capset");
}

/* The guest's side: enters the tree, and leaves the host's. */
static noreturn void be_guest(int go, int image, int daemon_socket, int agent_socket, int network) {
  char byte;
  if (read(go, &byte, 1) != 1) _exit(1);
  if (given.ids) {
    must(setgroups(0, NULL), "setgroups");
    must(setresgid(0, 0, 0), "setresgid");
    must(setresuid(0, 0, 0), "setresuid");
  }
  must(prctl(PR_SET_PDEATHSIG, SIGKILL), "pdeathsig"); /* after setresuid, which clears it */
  syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL); /* not the host's; fails where kernels have no keys */
  must(fchdir(image), "root");
  must(unshare(CLONE_NEWNS | CLONE_NEWCGROUP), "unshare");
  must(sethostname(given.name, strlen(given.name)), "hostname");
  /* Inherited mounts are locked in place, and pivot_root wants one that is not. */
  int root = (int)must(syscall(SYS_open_tree, AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE), "root");
  must(syscall(SYS_move_mount, root, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH), "root");
  must(fchdir(root), "root");
  must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
  must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "devpts");
  if (given.cgroups) mount("cgroup2", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  /* The old root lands on top of the new one; detached, nothing of the host's root is left in here. */
  must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  must(umount2(".", MNT_DETACH), "umount");
  must(chdir("/"), "chdir");
  close(root);
  close(image);
  close(go);
  drop_capabilities();
  refuse_system_calls();
  if (given.probe) _exit(0);
  run_init(daemon_socket, agent_socket, network);
}

/* As `mount -o remount` does; only the host's root may. */
static int forget_lookups(int store) {
  int context = (int)syscall(SYS_fspick, store, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
  if (context < 0) return -1;
  int result = (int)syscall(SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
  close(context);
  return result;
}

/* Waits for the guest's end, and ends as it did. */
static int outlive(pid_t guest, pid_t slirp, int store, int signals) {
  for (;;) {
    struct pollfd waits[] = {{.fd = signals, .events = POLLIN}, {.fd = ask, .events = POLLIN}};
    if (poll(waits, 2, -1) < 0 && errno != EINTR) die("poll");
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info)
      if (info.ssi_signo == SIGTERM) kill(guest, SIGKILL);
    int status;
    if (slirp > 0 && waitpid(slirp, &status, WNOHANG) == slirp) {
      dprintf(CONSOLE, "drover-namespace: slirp4netns has ended (status %d)\n", status);
      kill(guest, SIGKILL);
      slirp = 0;
    }
    if (waitpid(guest, &status, WNOHANG) == guest) {
      if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, NULL);
      kill(getpid(), WTERMSIG(status));
      return 128 + WTERMSIG(status);
    }
    char byte;
    if (waits[1].revents && read(ask, &byte, 1) == 1) {
      const char *result = forget_lookups(store) < 0 ? "failed\n" : "done\n";
      if (write(answer, result, strlen(result)) < 0 && errno != EAGAIN) die("answer");
    }
  }
}

int main(int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "outbound") == 0) run_outbound(arguments + 2);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  syscall(SYS_close_range, REPORT + 1, ~0U, 0);
  fcntl(REPORT, F_SETFD, FD_CLOEXEC);
  for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  sigaddset(&handled, SIGTERM);
  sigprocmask(SIG_SETMASK, &handled, NULL);
  umask(022);
  parse(arguments + 1);

  unsigned ids = given.ids ? (unsigned)atol(given.ids) : 0, root = ids > 0 ? take_ids(ids) : 0;
  int own_network = strcmp(given.network, "host") != 0;
  /* A mount namespace of the host's user namespace, since only here can its file systems be idmapped. The network's
   * belongs to the host, too: the guest's root cannot change it. */
  struct slirp slirp;
  pid_t slirp_pid = 0;
  int network = -1;
  if (given.slirp && !given.probe) {
    pid_t self = getpid();
    slirp = prepare_slirp(given.slirp);
    slirp_pid = (pid_t)must(fork(), "fork");
    if (slirp_pid == 0) {
      must(prctl(PR_SET_PDEATHSIG, SIGKILL), "pdeathsig");
      become_slirp(&slirp, self, 0, -1);
    }
    close(slirp.ready[1]);
    network = slirp.ready[0];
  }
  must(unshare(CLONE_NEWNS | (own_network ? CLONE_NEWNET : 0)), "unshare");
  must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
  if (own_network) make_network();
  if (slirp_pid > 0) {
    must(write(slirp.go[1], "", 1), "slirp4netns");
    write_file(slirp_pid, "oom_score_adj", "500");
  }
  open_binds();
  int image = bind_count > 0 ? new_root(root) : detached(given.image), etc = detached(given.etc), store = detached(given.store);
  /* One that hides nothing, as the host's may: the kernel lets the guest mount its own only then. */
  must(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "/proc");
  must(chdir(given.dir), given.dir);
  int daemon_socket = listen_at("nix"), agent_socket = listen_at("run");
  must(chdir("root"), "root");

  int go[2];
  must(pipe2(go, O_CLOEXEC), "pipe");
  unsigned long own = CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (ids > 0 ? CLONE_NEWUSER : 0);
  pid_t guest = (pid_t)must(syscall(SYS_clone, own | SIGCHLD, NULL, NULL, NULL, NULL), "clone");
  if (guest == 0) {
    close(go[1]);
    be_guest(go[0], image, daemon_socket, agent_socket, network);
  }
  int user_namespace = -1;
  if (ids > 0) {
    char map[64], path[64];
    snprintf(map, sizeof map, "0 %u %u\n", root, ids);
    write_file(guest, "uid_map", map);
    write_file(guest, "gid_map", map);
    snprintf(path, sizeof path, "/proc/%d/ns/user", guest);
    user_namespace = (int)must(open(path, O_RDONLY | O_CLOEXEC), path);
  }
  if (given.cgroups) enter_cgroups(guest, root);
  write_file(guest, "oom_score_adj", "500"); /* what runs in a guest ends before anything of the host */
  int mounted = make_tree(image, etc, store, user_namespace, root);
  must(write(go[1], "", 1), "go");
  const int done[] = {LIFE, REPORT, go[0], go[1], daemon_socket, agent_socket, image, etc, store, network};
  for (size_t i = 0; i < sizeof done / sizeof *done; i++) close(done[i]);
  int signals = (int)must(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
  return outlive(guest, slirp_pid, mounted, signals);
}
