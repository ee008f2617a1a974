#define _GNU_SOURCE
#include "requests.h"
#include "say.h"
#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RequestBytes = 1 << 16, DataBytes = 1 << 20, StoreGroup = 30000, Statx = 52 };
#define FOREVER (UINT64_MAX / 4)

static int fuseFd = -1;

bool requests_mount(const char *mountpoint) {
  fuseFd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fuseFd < 0) return false;
  char options[128];
  snprintf(options, sizeof options,
           "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d", fuseFd, DataBytes);
  return mount("exact-store", mountpoint, "fuse.exact-store", MS_RDONLY | MS_NODEV | MS_NOSUID, options) == 0;
}

void requests_close(void) { close(fuseFd); }

static void reply(const struct fuse_in_header *in, int error, const void *data, size_t size) {
  struct fuse_out_header h = {.unique = in->unique, .error = error, .len = (uint32_t)(sizeof h + size)};
  struct iovec iov[2] = {{&h, sizeof h}, {(void *)data, size}};
  // An interrupted request, or an unmounted file system, has no one to answer.
  if (writev(fuseFd, iov, size ? 2 : 1) < 0 && errno != ENOENT && errno != ENODEV) say("reply: %s", strerror(errno));
}

void requests_invalidate(const char *name) {
  struct fuse_notify_inval_entry_out out = {.parent = FUSE_ROOT_ID, .namelen = (uint32_t)strlen(name)};
  struct fuse_out_header h = {.error = FUSE_NOTIFY_INVAL_ENTRY,
                              .len = (uint32_t)(sizeof h + sizeof out + strlen(name) + 1)};
  struct iovec iov[3] = {{&h, sizeof h}, {&out, sizeof out}, {(void *)name, strlen(name) + 1}};
  if (writev(fuseFd, iov, 3) < 0 && errno != ENOENT) say("invalidation of %s: %s", name, strerror(errno));
}

// MARK: attributes, as Nix has them: one owner, no times, no links

static uint32_t type_of(uint8_t type) { return type == 'd' ? S_IFDIR : type == 'l' ? S_IFLNK : S_IFREG; }

static void fill_attributes(struct fuse_attr *a, const struct path *path, uint32_t entry) {
  const struct entry *e = &path->listing.entries[entry];
  uint64_t size = e->type == 'd' ? 4096 : e->type == 'l' ? e->is.link.length : e->is.size;
  uint32_t mode = e->type == 'd' || e->type == 'x' ? 0555 : e->type == 'l' ? 0777 : 0444;
  *a = (struct fuse_attr){.ino = node_of(path, entry),
                          .size = size,
                          .blocks = (size + 511) / 512,
                          .mode = type_of(e->type) | mode,
                          .nlink = e->type == 'd' ? 2 : 1,
                          .mtime = 1,
                          .atime = 1,
                          .ctime = 1,
                          .blksize = 4096};
}

/// For the kernel to keep for ever: nothing in a store path changes.
static struct fuse_entry_out entry_out(const struct path *path, uint32_t entry) {
  struct fuse_entry_out out = {.nodeid = node_of(path, entry),
                               .generation = path->generation,
                               .entry_valid = FOREVER,
                               .attr_valid = FOREVER};
  fill_attributes(&out.attr, path, entry);
  return out;
}

static void look_up(const struct fuse_in_header *in, const char *name) {
  struct fuse_entry_out out = {0};
  if (in->nodeid == FUSE_ROOT_ID) {
    struct path *path = shown_look_up(name);
    if (!path) return reply(in, -ENOENT, NULL, 0); // not to be remembered: it may be shown later
    out = entry_out(path, 0);
    return reply(in, 0, &out, sizeof out);
  }
  struct path *path = shown_of(in->nodeid);
  uint32_t directory = entry_of(in->nodeid);
  if (path->listing.entries[directory].type != 'd') return reply(in, -ENOTDIR, NULL, 0);
  uint32_t entry = listing_find(&path->listing, directory, name);
  if (entry) {
    shown_remember(path);
    out = entry_out(path, entry);
  } else out.entry_valid = FOREVER; // absent, for ever
  reply(in, 0, &out, sizeof out);
}

static void get_attributes(const struct fuse_in_header *in) {
  struct fuse_attr_out out = {.attr_valid = FOREVER};
  if (in->nodeid == FUSE_ROOT_ID)
    out.attr = (struct fuse_attr){.ino = 1, .mode = S_IFDIR | 01775, .nlink = 2, .gid = StoreGroup, .mtime = 1,
                                  .atime = 1, .ctime = 1, .blksize = 4096};
  else fill_attributes(&out.attr, shown_of(in->nodeid), entry_of(in->nodeid));
  reply(in, 0, &out, sizeof out);
}

static void read_link(const struct fuse_in_header *in) {
  if (in->nodeid == FUSE_ROOT_ID) return reply(in, -EINVAL, NULL, 0);
  const struct listing *l = &shown_of(in->nodeid)->listing;
  const struct entry *e = &l->entries[entry_of(in->nodeid)];
  if (e->type != 'l') return reply(in, -EINVAL, NULL, 0);
  reply(in, 0, l->text + e->is.link.target, e->is.link.length);
}

static void read_file(const struct fuse_in_header *in, const struct fuse_read_in *arg, char *data) {
  struct path *path = in->nodeid == FUSE_ROOT_ID ? NULL : shown_of(in->nodeid);
  uint32_t entry = entry_of(in->nodeid);
  uint8_t type = path ? path->listing.entries[entry].type : 'd';
  if (type != 'f' && type != 'x') return reply(in, type == 'd' ? -EISDIR : -EINVAL, NULL, 0);
  ssize_t got = source_read(path, entry, data, arg->size < DataBytes ? arg->size : DataBytes, (off_t)arg->offset);
  reply(in, got < 0 ? (int)got : 0, data, got < 0 ? 0 : (size_t)got);
}

// MARK: directories

struct page {
  char *data;
  size_t used, room;
  bool plus;
};

/// Adds an entry. Returns false if there is no room for it.
static bool add_name(struct page *page, uint64_t next, const char *name, const struct path *path, uint32_t entry) {
  size_t length = strlen(name), head = page->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
  size_t bytes = FUSE_DIRENT_ALIGN(head + length);
  if (page->used + bytes > page->room) return false;
  char *at = page->data + page->used;
  memset(at, 0, bytes);
  struct fuse_dirent *d = (struct fuse_dirent *)(at + (page->plus ? sizeof(struct fuse_entry_out) : 0));
  *d = (struct fuse_dirent){.ino = 1, .off = next, .namelen = (uint32_t)length, .type = DT_DIR};
  if (path) {
    d->ino = node_of(path, entry);
    d->type = type_of(path->listing.entries[entry].type) >> 12;
    if (page->plus) *(struct fuse_entry_out *)at = entry_out(path, entry);
  }
  memcpy(d->name, name, length);
  page->used += bytes;
  return true;
}

static void list_root(struct page *page, uint64_t offset) {
  if (offset == 0 && !add_name(page, 1, ".", NULL, 0)) return;
  if (offset <= 1 && !add_name(page, 2, "..", NULL, 0)) return;
  struct path *path;
  for (uint32_t slot = offset > 2 ? (uint32_t)(offset - 2) : 1; (path = shown_from(slot)); slot = path->slot + 1) {
    bool added = add_name(page, (uint64_t)path->slot + 3, path->name, path, 0);
    if (!added || !page->plus) shown_forget(node_of(path, 0), 1);
    if (!added) return;
  }
}

static void list_directory(struct page *page, uint64_t offset, struct path *path, uint32_t directory) {
  const struct listing *l = &path->listing;
  const struct entry *e = &l->entries[directory];
  for (uint64_t at = offset; at < (uint64_t)e->is.children.count + 2; at++) {
    uint32_t child = at < 2 ? 0 : e->is.children.first + (uint32_t)(at - 2);
    bool added = at < 2 ? add_name(page, at + 1, at == 0 ? "." : "..", NULL, 0)
                        : add_name(page, at + 1, listing_name(l, child), path, child);
    if (!added) return;
    if (at >= 2 && page->plus) shown_remember(path);
  }
}

static void read_directory(const struct fuse_in_header *in, const struct fuse_read_in *arg, char *data, bool plus) {
  struct page page = {.data = data, .room = arg->size < DataBytes ? arg->size : DataBytes, .plus = plus};
  if (in->nodeid == FUSE_ROOT_ID) list_root(&page, arg->offset);
  else list_directory(&page, arg->offset, shown_of(in->nodeid), entry_of(in->nodeid));
  reply(in, 0, data, page.used);
}

static void open_directory(const struct fuse_in_header *in) {
  struct fuse_open_out out = {0};
  if (in->nodeid != FUSE_ROOT_ID) {
    if (shown_of(in->nodeid)->listing.entries[entry_of(in->nodeid)].type != 'd') return reply(in, -ENOTDIR, NULL, 0);
    out.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
  }
  reply(in, 0, &out, sizeof out);
}

// MARK: the rest

static void status_of_file_system(const struct fuse_in_header *in) {
  struct fuse_statfs_out out = {.st = {.bsize = 4096, .frsize = 4096, .namelen = 255, .files = shown_count().files}};
  reply(in, 0, &out, sizeof out);
}

static bool greet(const struct fuse_in_header *in, const struct fuse_init_in *arg) {
  uint64_t offered = arg->flags | (arg->flags & FUSE_INIT_EXT ? (uint64_t)arg->flags2 << 32 : 0);
  // NO_OPEN: files are never opened here, so a file whose content is cached costs no message at all.
  uint64_t wanted = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_MAX_PAGES |
                    FUSE_EXPLICIT_INVAL_DATA | FUSE_CACHE_SYMLINKS | FUSE_NO_OPEN_SUPPORT | FUSE_INIT_EXT;
  uint64_t flags = wanted & offered;
  struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                              .minor = arg->minor < FUSE_KERNEL_MINOR_VERSION ? arg->minor : FUSE_KERNEL_MINOR_VERSION,
                              .max_readahead = arg->max_readahead,
                              .flags = (uint32_t)flags,
                              .flags2 = (uint32_t)(flags >> 32),
                              .max_background = 64,
                              .congestion_threshold = 48,
                              .max_write = 4096,
                              .time_gran = 1,
                              .max_pages = DataBytes / 4096};
  bool enough = arg->major == FUSE_KERNEL_VERSION && (flags & FUSE_NO_OPEN_SUPPORT);
  reply(in, enough ? 0 : -EPROTO, &out, enough ? sizeof out : 0);
  return enough;
}

static void forget_batch(const struct fuse_batch_forget_in *batch) {
  const struct fuse_forget_one *one = (const void *)(batch + 1);
  for (uint32_t i = 0; i < batch->count; i++) shown_forget(one[i].nodeid, one[i].nlookup);
}

static void answer(const struct fuse_in_header *in, char *data) {
  const void *arg = in + 1;
  switch (in->opcode) {
  case FUSE_LOOKUP: return look_up(in, arg);
  case FUSE_FORGET: return shown_forget(in->nodeid, ((const struct fuse_forget_in *)arg)->nlookup);
  case FUSE_BATCH_FORGET: return forget_batch(arg);
  case FUSE_GETATTR: return get_attributes(in);
  case FUSE_READLINK: return read_link(in);
  case FUSE_READ: return read_file(in, arg, data);
  case FUSE_OPENDIR: return open_directory(in);
  case FUSE_READDIR: return read_directory(in, arg, data, false);
  case FUSE_READDIRPLUS: return read_directory(in, arg, data, true);
  case FUSE_RELEASEDIR: return reply(in, 0, NULL, 0);
  case FUSE_STATFS: return status_of_file_system(in);
  case FUSE_INTERRUPT: return; // the share answers soon, or never
  case FUSE_OPEN: case FUSE_FLUSH: case FUSE_ACCESS: case FUSE_GETXATTR: case FUSE_LISTXATTR: case FUSE_FSYNC:
  case FUSE_IOCTL: case FUSE_POLL: case FUSE_LSEEK: case Statx: return reply(in, -ENOSYS, NULL, 0);
  case FUSE_DESTROY: return reply(in, 0, NULL, 0);
  default: return reply(in, -EROFS, NULL, 0);
  }
}

bool requests_greet(void) {
  char request[RequestBytes];
  struct fuse_in_header *in = (struct fuse_in_header *)request;
  if (read(fuseFd, request, sizeof request) < (ssize_t)sizeof *in || in->opcode != FUSE_INIT) return false;
  return greet(in, (struct fuse_init_in *)(in + 1));
}

void requests_serve(void) {
  char *request = aligned_alloc(4096, RequestBytes), *data = aligned_alloc(4096, DataBytes);
  if (!request || !data) _exit(1);
  for (;;) {
    ssize_t got = read(fuseFd, request, RequestBytes);
    if (got > 0) answer((struct fuse_in_header *)request, data);
    else if (got == 0 || (errno != EINTR && errno != EAGAIN && errno != ENOENT)) break;
  }
  free(request);
  free(data);
}
