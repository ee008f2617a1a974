#include "shown.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { Buckets = 1 << 14 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct path *buckets[Buckets];
static struct path **slots; // slot 0 is the root's
static uint32_t slotRoom, slotsUsed = 1, freeSlot, generations;
static struct shown_counts counts;

static struct path **bucket(const char *name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
  return &buckets[(hash ^ hash >> 29) % Buckets];
}

static struct path *find(const char *name) {
  struct path *path = *bucket(name);
  while (path && strcmp(path->name, name)) path = path->next;
  return path;
}

static void release_if_unused(struct path *path) {
  if (!path->hidden || path->lookups > 0) return;
  counts.paths--;
  counts.files -= path->listing.count;
  counts.bytes -= listing_bytes(&path->listing);
  slots[path->slot] = NULL;
  freeSlot = path->slot;
  listing_free(&path->listing);
  free(path);
}

static void hide(struct path *path) {
  struct path **at = bucket(path->name);
  while (*at != path) at = &(*at)->next;
  *at = path->next;
  path->hidden = true;
  release_if_unused(path);
}

/// Returns 0 if there is no memory.
static uint32_t take_slot(void) {
  uint32_t slot = freeSlot;
  freeSlot = 0;
  if (slot) return slot;
  if (slotsUsed >= slotRoom) {
    uint32_t room = slotRoom ? slotRoom * 2 : 1024;
    struct path **grown = realloc(slots, room * sizeof *slots);
    if (!grown) return 0;
    memset(grown + slotRoom, 0, (room - slotRoom) * sizeof *slots);
    slots = grown;
    slotRoom = room;
  }
  return slotsUsed++;
}

bool shown_add(const char *name, struct listing *listing, size_t maxBytes, bool *replaced) {
  listing_end(listing);
  struct path *path = calloc(1, sizeof *path + strlen(name) + 1);
  pthread_mutex_lock(&lock);
  bool fits = path && counts.bytes + listing_bytes(listing) <= maxBytes;
  uint32_t slot = fits ? take_slot() : 0;
  if (slot) {
    struct path *old = find(name);
    *replaced = old != NULL;
    if (old) hide(old);
    strcpy(path->name, name);
    path->listing = *listing;
    path->slot = slot;
    path->generation = ++generations;
    slots[slot] = path;
    path->next = *bucket(name);
    *bucket(name) = path;
    counts.paths++;
    counts.files += listing->count;
    counts.bytes += listing_bytes(listing);
  }
  pthread_mutex_unlock(&lock);
  if (!slot) free(path);
  return slot != 0;
}

static bool same_link(const struct listing *a, const struct entry *x, const struct listing *b, const struct entry *y) {
  return x->is.link.length == y->is.link.length &&
         !memcmp(a->text + x->is.link.target, b->text + y->is.link.target, x->is.link.length);
}

static bool same(const struct listing *a, const struct listing *b) {
  if (a->count != b->count) return false;
  for (uint32_t i = 0; i < a->count; i++) {
    const struct entry *x = &a->entries[i], *y = &b->entries[i];
    if (x->type != y->type || strcmp(listing_name(a, i), listing_name(b, i)) ||
        strcmp(listing_source(a, i), listing_source(b, i)))
      return false;
    if (x->type == 'l' ? !same_link(a, x, b, y) : x->is.size != y->is.size) return false;
  }
  return true;
}

bool shown_same(const char *name, const struct listing *listing) {
  pthread_mutex_lock(&lock);
  struct path *path = find(name);
  bool is = path && same(&path->listing, listing);
  pthread_mutex_unlock(&lock);
  return is;
}

struct path *shown_look_up(const char *name) {
  pthread_mutex_lock(&lock);
  struct path *path = find(name);
  if (path) path->lookups++;
  pthread_mutex_unlock(&lock);
  return path;
}

void shown_remember(struct path *path) {
  pthread_mutex_lock(&lock);
  path->lookups++;
  pthread_mutex_unlock(&lock);
}

void shown_forget(uint64_t node, uint64_t lookups) {
  pthread_mutex_lock(&lock);
  uint32_t slot = (uint32_t)(node >> 32);
  struct path *path = slot < slotsUsed && slotRoom ? slots[slot] : NULL;
  if (path) {
    path->lookups -= lookups < path->lookups ? lookups : path->lookups;
    release_if_unused(path);
  }
  pthread_mutex_unlock(&lock);
}

struct path *shown_of(uint64_t node) {
  pthread_mutex_lock(&lock); // `slots` may move
  struct path *path = slots[node >> 32];
  pthread_mutex_unlock(&lock);
  return path;
}

struct path *shown_from(uint32_t from) {
  pthread_mutex_lock(&lock);
  struct path *found = NULL;
  for (uint32_t slot = from ? from : 1; slot < slotsUsed && !found; slot++)
    if (slots[slot] && !slots[slot]->hidden) found = slots[slot];
  if (found) found->lookups++;
  pthread_mutex_unlock(&lock);
  return found;
}

struct shown_counts shown_count(void) {
  pthread_mutex_lock(&lock);
  struct shown_counts result = counts;
  pthread_mutex_unlock(&lock);
  return result;
}
