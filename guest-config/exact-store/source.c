#define _GNU_SOURCE
#include "source.h"
#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

enum {
  MaxOpen = 256,         // files and directories that stay open
  ForgetAfter = 8192,    // files looked up, before the kernel is made to forget the share
  IdleSeconds = 2,
  Attempts = 6,          // the pauses between them double: 126 ms in all
  Buckets = 1024,
};

/// An open file, or an O_PATH descriptor of a directory.
struct open {
  struct open *next;            // of its hash chain
  struct open *newer, *older;   // in the order of use
  uint64_t node;
  uint32_t generation; // of its path: slots are used again
  int fd, users;
  time_t usedAt;
};

static const char *directory;
static int rootFd = -1;
static bool direct;
static const int FileFlags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, forgetting = PTHREAD_MUTEX_INITIALIZER;
static struct open *buckets[Buckets], ends = {.newer = &ends, .older = &ends};
static size_t openCount;
static uint32_t lookedUp; // since the last forget
static struct source_counts counts;
#define COUNT(what, n) __atomic_add_fetch(&counts.what, (uint64_t)(n), __ATOMIC_RELAXED)

struct source_counts source_count(void) { return counts; }

static time_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return t.tv_sec;
}

bool source_open(const char *path) {
  directory = path;
  rootFd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  struct statfs fs;
  // Our own mount caches already. Other file systems than FUSE's ask for aligned reads.
  if (rootFd >= 0 && fstatfs(rootFd, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC) direct = true;
  return rootFd >= 0;
}

/// A remount drops every directory entry that is not in use. Entries of our own mount stay.
void source_forget(void) {
  if (pthread_mutex_trylock(&forgetting)) return;
  if (__atomic_exchange_n(&lookedUp, 0, __ATOMIC_RELAXED) > 0) {
    mount(NULL, directory, NULL, MS_REMOUNT | MS_RDONLY, NULL);
    COUNT(forgets, 1);
  }
  pthread_mutex_unlock(&forgetting);
}

static void looked_up(void) {
  if (__atomic_add_fetch(&lookedUp, 1, __ATOMIC_RELAXED) > ForgetAfter) source_forget();
}

// MARK: open files. The lock is held in the functions of this section.

static struct open **bucket(uint64_t node) { return &buckets[(node ^ node >> 32) % Buckets]; }

static void unlink_use(struct open *o) {
  o->newer->older = o->older;
  o->older->newer = o->newer;
}

static void use(struct open *o) {
  o->users++;
  o->usedAt = now();
  o->older = ends.older; // `ends.older` is the newest, `ends.newer` the oldest
  o->newer = &ends;
  ends.older->newer = o;
  ends.older = o;
}

static struct open *find(uint64_t node, uint32_t generation) {
  struct open *o = *bucket(node);
  while (o && (o->node != node || o->generation != generation)) o = o->next;
  return o;
}

static void drop(struct open *o) {
  struct open **at = bucket(o->node);
  while (*at != o) at = &(*at)->next;
  *at = o->next;
  unlink_use(o);
  close(o->fd);
  free(o);
  openCount--;
}

static void drop_unused(size_t leave, time_t usedBefore) {
  for (struct open *o = ends.newer, *newer; o != &ends && openCount > leave; o = newer) {
    newer = o->newer;
    if (o->users == 0 && o->usedAt <= usedBefore) drop(o);
  }
}

// MARK: access

/// Whether to try again after this error. Each of them has been seen to pass on some host.
static bool again(int error, int *attempt) {
  bool mayPass = error == ENOENT || error == EMFILE || error == ENFILE || error == EINTR || error == ENOMEM ||
                 error == ESTALE || error == EIO;
  if (!mayPass || *attempt >= Attempts) return false;
  COUNT(retries, 1);
  if (error != EINTR) {
    pthread_mutex_lock(&lock);
    drop_unused(0, now());
    pthread_mutex_unlock(&lock);
    __atomic_add_fetch(&lookedUp, 1, __ATOMIC_RELAXED);
    source_forget();
  }
  struct timespec pause = {.tv_nsec = (2L << (*attempt)++) * 1000000};
  nanosleep(&pause, NULL);
  return true;
}

bool source_has(const char *name) {
  struct stat status;
  for (int attempt = 0; fstatat(rootFd, name, &status, AT_SYMLINK_NOFOLLOW);)
    if (!again(errno, &attempt)) return false;
  looked_up();
  return true;
}

static struct open *acquire(struct path *path, uint32_t entry);
static void release(struct open *o) {
  if (!o) return;
  pthread_mutex_lock(&lock);
  o->users--;
  pthread_mutex_unlock(&lock);
}

static const int DirectoryFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/// Opens the entry, and sees that it is what the host listed. Returns the descriptor or a negative errno.
static int open_listed(struct path *path, uint32_t entry) {
  const struct entry *e = &path->listing.entries[entry];
  struct open *parent = entry == 0 ? NULL : acquire(path, e->parent);
  if (entry != 0 && !parent) return -EIO;
  const char *name = entry == 0 ? path->name : listing_source(&path->listing, entry);
  struct stat status;
  int fd, error;
  for (int attempt = 0;;) {
    fd = openat(parent ? parent->fd : rootFd, name, e->type == 'd' ? DirectoryFlags : FileFlags);
    error = errno;
    if (fd >= 0 && e->type != 'd' && (fstat(fd, &status) || (uint64_t)status.st_size != e->is.size)) {
      close(fd);
      fd = -1;
      error = ESTALE; // another file, or one that the kernel remembers from before
    }
    if (fd >= 0 || !again(error, &attempt)) break;
  }
  release(parent);
  looked_up();
  COUNT(opens, 1);
  // Only now: the share gets the flags of an open, and this one is O_DIRECTORY to a host of another architecture.
  if (fd >= 0 && direct && e->type != 'd') fcntl(fd, F_SETFL, O_DIRECT);
  if (fd >= 0) return fd;
  say("%s/%s is listed, and cannot be opened: %s", path->name, listing_name(&path->listing, entry), strerror(error));
  return -EIO;
}

/// The entry, open until `release`; NULL after an error.
static struct open *acquire(struct path *path, uint32_t entry) {
  uint64_t node = node_of(path, entry);
  pthread_mutex_lock(&lock);
  struct open *o = find(node, path->generation);
  if (o) {
    unlink_use(o);
    use(o);
  }
  pthread_mutex_unlock(&lock);
  if (o) return o;
  int fd = open_listed(path, entry);
  struct open *new = fd < 0 ? NULL : malloc(sizeof *new);
  if (!new) {
    if (fd >= 0) close(fd);
    return NULL;
  }
  pthread_mutex_lock(&lock);
  o = find(node, path->generation);
  if (o) { // another thread was faster
    unlink_use(o);
    close(fd);
    free(new);
  } else {
    o = new;
    *o = (struct open){.node = node, .generation = path->generation, .fd = fd, .next = *bucket(node)};
    *bucket(node) = o;
    openCount++;
  }
  use(o);
  if (openCount > MaxOpen) drop_unused(MaxOpen, now());
  pthread_mutex_unlock(&lock);
  return o;
}

ssize_t source_read(struct path *path, uint32_t entry, char *buffer, size_t size, off_t at) {
  struct open *o = acquire(path, entry);
  if (!o) return -EIO;
  uint64_t left = path->listing.entries[entry].is.size;
  left -= (uint64_t)at < left ? (uint64_t)at : left;
  if (size > left) size = (size_t)left;
  size_t done = 0;
  int error = 0;
  for (int attempt = 0; done < size && !error;) {
    ssize_t got = pread(o->fd, buffer + done, size - done, at + (off_t)done);
    if (got > 0) done += (size_t)got;
    else if (got == 0) error = EIO; // shorter than it was when it was opened
    else if (!again(error = errno, &attempt)) break;
    else error = 0;
  }
  release(o);
  if (error) {
    say("%s/%s cannot be read: %s", path->name, listing_name(&path->listing, entry), strerror(error));
    return -EIO;
  }
  COUNT(reads, 1);
  COUNT(bytes, done);
  return (ssize_t)done;
}

void source_rest(void) {
  static uint32_t before;
  pthread_mutex_lock(&lock);
  drop_unused(0, now() - IdleSeconds);
  pthread_mutex_unlock(&lock);
  uint32_t seen = __atomic_load_n(&lookedUp, __ATOMIC_RELAXED);
  if (seen && seen == before) source_forget();
  before = seen;
}
