/*
 * Kernel functions for the supervisor that Node lacks: dist/native.node, loaded by src/lib/native.ts. The
 * Node-API functions are declared here, so that the build needs no headers of Node: their ABI is stable
 * across versions (https://nodejs.org/api/n-api.html#implications-of-abi-stability).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
/* 0: napi_ok */
typedef int napi_status;

extern napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
extern napi_status napi_get_value_int32(napi_env, napi_value, int32_t *);
extern napi_status napi_create_int64(napi_env, int64_t, napi_value *);
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

static void add(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, strlen(name), callback, NULL, &function) == 0)
    napi_set_named_property(env, exports, name, function);
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  add(env, exports, "peerUid", peer_uid);
  add(env, exports, "duplicate", duplicate);
  add(env, exports, "descriptorLimit", descriptor_limit);
  return exports;
}
