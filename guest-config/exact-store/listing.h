// A store path as the host lists it: every name in it, with type, size and link target.
//
// Text form: the path's root on one line, then the children of each directory in the order in which the directories
// were listed, sorted by the bytes of their names, each group ended by an empty line.
//
//   TYPE VALUE NAME [SOURCE]     TYPE d: directory, VALUE 0.   f, x: file, VALUE its size.   l: link, VALUE its target.
//                                SOURCE: name on the host's disk, if it differs (Nix's case hack)
//
// Words hold printable ASCII; every other byte, and `%`, is %XX. The root's NAME is `.`.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ListingLineBytes = 16384 };

struct entry {
  uint32_t name;   // offset of the name in `text`
  uint32_t source; // offset of the name on the host's disk
  uint32_t parent; // index; the root's is 0
  uint8_t type;    // d, f, x or l
  union {
    uint64_t size; // f, x
    struct {
      uint32_t first, count; // d: indices of its children, sorted by name
    } children;
    struct {
      uint32_t target, length; // l: offset in `text`
    } link;
  } is;
};

struct listing {
  struct entry *entries;
  char *text;
  uint32_t count, room, textBytes, textRoom;
  uint32_t directory; // while it is read: index of the directory whose children come; `count`: none is left
};

/// Returns false if there is no memory.
bool listing_begin(struct listing *l);
/// Takes one line, without its newline. Returns what is wrong with it, or NULL.
const char *listing_take(struct listing *l, char *line);
bool listing_complete(const struct listing *l);
/// Gives back memory that was only needed while reading.
void listing_end(struct listing *l);
void listing_free(struct listing *l);
size_t listing_bytes(const struct listing *l);

/// Index of the child with exactly this name, or 0.
uint32_t listing_find(const struct listing *l, uint32_t directory, const char *name);
static inline const char *listing_name(const struct listing *l, uint32_t entry) { return l->text + l->entries[entry].name; }
static inline const char *listing_source(const struct listing *l, uint32_t entry) {
  return l->text + l->entries[entry].source;
}
