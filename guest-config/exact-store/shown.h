// The store paths that the file system shows, and the numbers by which the kernel knows the files in them.
//
// A node id is the path's slot and, in the low 32 bits, 1 + the entry's index; slot 0 is the root of the file system.
// The entries of a path never change. A path lives until it is hidden and the kernel has forgotten every node of it, so
// a request for a node needs no lock.
#pragma once
#include "listing.h"

struct path {
  struct path *next; // of its hash chain
  struct listing listing;
  uint64_t lookups; // that the kernel has not forgotten
  uint32_t slot, generation;
  bool hidden; // collected on the host, or replaced by another path of the same name
  char name[];
};

/// Takes over the listing. A path that is shown under this name is hidden. Returns false, and leaves the listing alone,
/// if all listings together would take more than `maxBytes`. `replaced`: whether another one was shown.
bool shown_add(const char *name, struct listing *listing, size_t maxBytes, bool *replaced);
/// Whether this very listing is shown under this name.
bool shown_same(const char *name, const struct listing *listing);

/// The path that is shown under this name, with one more lookup, or NULL.
struct path *shown_look_up(const char *name);
/// Another lookup of a node.
void shown_remember(struct path *path);
void shown_forget(uint64_t node, uint64_t lookups);

struct path *shown_of(uint64_t node);
static inline uint32_t entry_of(uint64_t node) { return (uint32_t)node - 1; }
static inline uint64_t node_of(const struct path *path, uint32_t entry) {
  return (uint64_t)path->slot << 32 | (entry + 1);
}
/// The first path that is shown in slot `from` or a later one, with one more lookup, or NULL.
struct path *shown_from(uint32_t from);

struct shown_counts {
  size_t paths, files, bytes;
};
struct shown_counts shown_count(void);
