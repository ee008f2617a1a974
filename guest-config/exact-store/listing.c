#include "listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MaxEntries = 50 * 1000 * 1000 };

bool listing_begin(struct listing *l) {
  *l = (struct listing){0};
  l->entries = malloc((l->room = 16) * sizeof *l->entries);
  l->text = malloc(l->textRoom = 512);
  if (l->entries && l->text) return true;
  listing_free(l);
  return false;
}

void listing_free(struct listing *l) {
  free(l->entries);
  free(l->text);
  *l = (struct listing){0};
}

size_t listing_bytes(const struct listing *l) { return l->room * sizeof *l->entries + l->textRoom; }

static int digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// Undoes %XX in place. Returns the length, or -1.
static int decode(char *word) {
  char *out = word;
  for (const char *in = word; *in; in++) {
    if (*in != '%') {
      *out++ = *in;
      continue;
    }
    if (digit(in[1]) < 0 || digit(in[2]) < 0 || (digit(in[1]) | digit(in[2])) == 0) return -1;
    *out++ = (char)(digit(in[1]) * 16 + digit(in[2]));
    in += 2;
  }
  *out = 0;
  return (int)(out - word);
}

static bool is_name(char *word) {
  int length = decode(word);
  return length > 0 && length <= 255 && !strchr(word, '/') && strcmp(word, ".") && strcmp(word, "..");
}

/// Returns the offset of a copy of the word, or -1 if there is no memory.
static int64_t keep(struct listing *l, const char *word) {
  size_t bytes = strlen(word) + 1;
  if (l->textBytes + bytes > l->textRoom) {
    size_t room = (l->textBytes + bytes) * 2;
    char *text = room > UINT32_MAX ? NULL : realloc(l->text, room);
    if (!text) return -1;
    l->text = text;
    l->textRoom = (uint32_t)room;
  }
  memcpy(l->text + l->textBytes, word, bytes);
  l->textBytes += (uint32_t)bytes;
  return l->textBytes - (uint32_t)bytes;
}

/// Moves on to the next directory whose children have not come yet.
static void next_directory(struct listing *l, uint32_t from) {
  while (from < l->count && l->entries[from].type != 'd') from++;
  l->directory = from;
  if (from < l->count) l->entries[from].is.children.first = l->count;
}

static const char *add(struct listing *l, char type, char *value, char *name, char *source) {
  bool root = l->count == 0;
  if (l->count >= MaxEntries) return "too many files";
  if (!strchr("dfxl", type)) return "an unknown type";
  if (root ? strcmp(name, ".") || source : !is_name(name) || (source && !is_name(source))) return "a bad name";
  if (!root && l->entries[l->directory].is.children.count > 0 &&
      strcmp(listing_name(l, l->count - 1), name) >= 0)
    return "names that are not in order";
  if (l->count == l->room) {
    struct entry *entries = realloc(l->entries, l->room * 2 * sizeof *entries);
    if (!entries) return "no memory";
    l->entries = entries;
    l->room *= 2;
  }
  int64_t nameAt = keep(l, name), sourceAt = source ? keep(l, source) : nameAt;
  if (nameAt < 0 || sourceAt < 0) return "no memory";
  struct entry e = {.name = (uint32_t)nameAt, .source = (uint32_t)sourceAt, .parent = l->directory, .type = (uint8_t)type};
  if (type == 'l') {
    int length = decode(value);
    int64_t at = length > 0 && length < 4096 ? keep(l, value) : -1;
    if (at < 0) return "a bad link";
    e.is.link.target = (uint32_t)at;
    e.is.link.length = (uint32_t)length;
  } else if (type != 'd') {
    char *end;
    errno = 0;
    e.is.size = strtoull(value, &end, 10);
    if (errno || *end || end == value || e.is.size > INT64_MAX) return "a bad size";
  }
  l->entries[l->count++] = e;
  if (root) next_directory(l, 0);
  else l->entries[l->directory].is.children.count++;
  return NULL;
}

const char *listing_take(struct listing *l, char *line) {
  if (listing_complete(l)) return "more than one path";
  if (!*line && l->count > 0) {
    next_directory(l, l->directory + 1);
    return NULL;
  }
  char *words[4] = {0}, *rest = line;
  for (int i = 0; i < 4 && rest; i++) words[i] = strsep(&rest, " ");
  if (rest || !words[2] || strlen(words[0]) != 1) return "a line that is not TYPE VALUE NAME [SOURCE]";
  return add(l, words[0][0], words[1], words[2], words[3]);
}

bool listing_complete(const struct listing *l) { return l->count > 0 && l->directory == l->count; }

void listing_end(struct listing *l) {
  struct entry *entries = realloc(l->entries, l->count * sizeof *entries);
  char *text = realloc(l->text, l->textBytes);
  if (entries) l->entries = entries, l->room = l->count;
  if (text) l->text = text, l->textRoom = l->textBytes;
}

uint32_t listing_find(const struct listing *l, uint32_t directory, const char *name) {
  uint32_t low = l->entries[directory].is.children.first, high = low + l->entries[directory].is.children.count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    int order = strcmp(name, listing_name(l, middle));
    if (order == 0) return middle;
    if (order < 0) high = middle;
    else low = middle + 1;
  }
  return 0;
}
