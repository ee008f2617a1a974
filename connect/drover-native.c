/*
 * Kernel functions for the supervisor that Node lacks: dist/native.node, loaded by src/lib/native.ts. The
 * Node-API functions are declared here, so that the build needs no headers of Node: their ABI is stable
 * across versions (https://nodejs.org/api/n-api.html#implications-of-abi-stability).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <termios.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
/* 0: napi_ok */
typedef int napi_status;

extern napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
extern napi_status napi_get_value_int32(napi_env, napi_value, int32_t *);
extern napi_status napi_get_value_string_utf8(napi_env, napi_value, char *, size_t, size_t *);
extern napi_status napi_create_int64(napi_env, int64_t, napi_value *);
extern napi_status napi_create_array_with_length(napi_env, size_t, napi_value *);
extern napi_status napi_set_element(napi_env, napi_value, uint32_t, napi_value);
extern napi_status napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
extern napi_status napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern napi_status napi_throw_error(napi_env, const char *, const char *);

/* The descriptor that is the only argument; -1 with an exception pending if it is not a number. */
static int descriptor(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int32_t fd;
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) == 0 && count == 1 &&
      napi_get_value_int32(env, argument, &fd) == 0 && fd >= 0)
    return fd;
  napi_throw_error(env, "EBADF", "expected a file descriptor");
  return -1;
}

static napi_value number(napi_env env, int64_t value) {
  napi_value result = NULL;
  napi_create_int64(env, value, &result);
  return result;
}

/* peerUid(fd): effective uid of the process that connected the Unix socket. */
static napi_value peer_uid(napi_env env, napi_callback_info info) {
  int fd = descriptor(env, info);
  if (fd < 0) return NULL;
#ifdef SO_PEERCRED
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0) return number(env, credentials.uid);
#else
  uid_t uid;
  gid_t gid;
  if (getpeereid(fd, &uid, &gid) == 0) return number(env, uid);
#endif
  napi_throw_error(env, "EPEERCRED", strerror(errno));
  return NULL;
}

/* duplicate(fd): another descriptor of the same open file, closed on exec. */
static napi_value duplicate(napi_env env, napi_callback_info info) {
  int fd = descriptor(env, info);
  if (fd < 0) return NULL;
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy >= 0) return number(env, copy);
  napi_throw_error(env, errno == EMFILE ? "EMFILE" : "EBADF", strerror(errno));
  return NULL;
}

/* descriptorLimit(): how many descriptors this process may have open. */
static napi_value descriptor_limit(napi_env env, napi_callback_info info) {
  (void)info;
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    return number(env, limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur);
  napi_throw_error(env, "ERLIMIT", strerror(errno));
  return NULL;
}

static napi_value fail(napi_env env, const char *what) {
  char message[256];
  int reason = errno;
  snprintf(message, sizeof message, "%s: %s", what, strerror(reason));
  napi_throw_error(env, reason == EPERM ? "EPERM" : "EFAILED", message);
  return NULL;
}

/* lookUpUser(name): [uid, gid]; undefined if there is no such user. */
static napi_value look_up_user(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, pair;
  char name[64];
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != 0 || count != 1 ||
      napi_get_value_string_utf8(env, argument, name, sizeof name, NULL) != 0) {
    napi_throw_error(env, "EINVAL", "expected a user name");
    return NULL;
  }
  const struct passwd *user = getpwnam(name);
  if (user == NULL || napi_create_array_with_length(env, 2, &pair) != 0) return NULL;
  napi_set_element(env, pair, 0, number(env, user->pw_uid));
  napi_set_element(env, pair, 1, number(env, user->pw_gid));
  return pair;
}

#ifdef __linux__

#if defined(__x86_64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifdef THIS_ARCHITECTURE

/* System calls that a process which only passes on streams never makes. */
static const unsigned DENIED[] = {
    __NR_execve,          __NR_execveat,      __NR_ptrace,        __NR_process_vm_readv, __NR_process_vm_writev,
    __NR_kill,            __NR_tkill,         __NR_rt_sigqueueinfo, __NR_mount,          __NR_umount2,
    __NR_pivot_root,      __NR_chroot,        __NR_unshare,       __NR_setns,            __NR_open_by_handle_at,
    __NR_bpf,             __NR_perf_event_open, __NR_keyctl,      __NR_add_key,          __NR_request_key,
    __NR_userfaultfd,     __NR_kexec_load,    __NR_init_module,   __NR_finit_module,     __NR_memfd_create,
    425 /* io_uring_setup */, 424 /* pidfd_send_signal */, 428 /* open_tree */, 429 /* move_mount */,
};
enum { DENIED_COUNT = sizeof DENIED / sizeof DENIED[0] };

/* Denies those, every socket that is not a Unix socket, and foreign architectures, to all threads of the process. */
static void filter_system_calls(void) {
  struct sock_filter filter[DENIED_COUNT + 12];
  size_t n = 0;
#define ADD(...) filter[n++] = (struct sock_filter)__VA_ARGS__
  ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
  ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCHITECTURE, 1, 0));
  ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
  /* x32 */
  ADD(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, DENIED_COUNT + 4, 0));
  for (size_t i = 0; i < DENIED_COUNT; i++)
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DENIED[i], (unsigned char)(DENIED_COUNT - i + 3), 0));
  ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 2));
  ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])));
  ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1));
  ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
#undef ADD
  struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
  /* A kernel without seccomp has none; the process still has no rights. */
  (void)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

#endif
#endif

/*
 * renouncePrivileges(directory, uid, gid): if root, makes `directory` the root of the file system, and
 * switches this process to that user, without groups. Afterwards it cannot regain rights, start programs or
 * open network sockets, and it ends with its parent, as far as the system supports that.
 */
static napi_value renounce_privileges(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  char directory[4096];
  int32_t uid, gid;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != 0 || count != 3 ||
      napi_get_value_string_utf8(env, arguments[0], directory, sizeof directory, NULL) != 0 ||
      napi_get_value_int32(env, arguments[1], &uid) != 0 || napi_get_value_int32(env, arguments[2], &gid) != 0) {
    napi_throw_error(env, "EINVAL", "expected a directory, a uid and a gid");
    return NULL;
  }
  if (chdir(directory) != 0) return fail(env, "its directory");
  if (geteuid() == 0) {
    gid_t own = (gid_t)gid;
    if (chroot(".") != 0) return fail(env, "chroot");
    if (setgroups(1, &own) != 0) return fail(env, "setgroups");
    if (setgid(own) != 0) return fail(env, "setgid");
    if (setuid((uid_t)uid) != 0) return fail(env, "setuid");
    if (uid != 0 && setuid(0) == 0) {
      errno = EPERM;
      return fail(env, "the rights of root came back");
    }
  }
#ifdef __linux__
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail(env, "no_new_privs");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  /* Set last: a change of user clears it. */
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
#ifdef THIS_ARCHITECTURE
  filter_system_calls();
#endif
#endif
  return NULL;
}

/* setRaw(fd): has a terminal pass every byte unchanged, both ways; Node's own raw mode still changes line feeds. */
static struct termios cooked;

static napi_value set_raw(napi_env env, napi_callback_info info) {
  int fd = descriptor(env, info);
  if (fd < 0) return NULL;
  if (tcgetattr(fd, &cooked) == 0) {
    struct termios raw = cooked;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSADRAIN, &raw) == 0) return NULL;
  }
  return fail(env, "the terminal");
}

/* setCooked(fd): undoes setRaw. */
static napi_value set_cooked(napi_env env, napi_callback_info info) {
  int fd = descriptor(env, info);
  if (fd >= 0) tcsetattr(fd, TCSADRAIN, &cooked);
  return NULL;
}

static void add(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, strlen(name), callback, NULL, &function) == 0)
    napi_set_named_property(env, exports, name, function);
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  add(env, exports, "peerUid", peer_uid);
  add(env, exports, "duplicate", duplicate);
  add(env, exports, "descriptorLimit", descriptor_limit);
  add(env, exports, "lookUpUser", look_up_user);
  add(env, exports, "setRaw", set_raw);
  add(env, exports, "setCooked", set_cooked);
  add(env, exports, "renouncePrivileges", renounce_privileges);
  return exports;
}
