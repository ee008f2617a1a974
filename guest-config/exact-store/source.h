// The share below: the host's store, as VirtioFS shows it. Only files that are read are opened, and few stay open: on
// macOS the host keeps a descriptor for every file that the guest's kernel remembers.
#pragma once
#include "shown.h"

#include <sys/types.h>

struct source_counts {
  uint64_t opens, reads, bytes, retries, forgets;
};

/// Returns false, with errno, if the directory cannot be opened.
bool source_open(const char *directory);
/// Whether the store path is there. Retried, as any error may pass.
bool source_has(const char *name);
// / Reads a file of a path. Returns the bytes read, or a negative errno: EIO for whatever goes wrong, since a file that
// is / listed is there.
ssize_t source_read(struct path *path, uint32_t entry, char *buffer, size_t size, off_t at);
/// Has the kernel drop what it remembers of the share, and with it what the host keeps open.
void source_forget(void);
/// Closes what was not used lately, and forgets if nothing was looked up since the last call. For a thread of its own.
void source_rest(void);
struct source_counts source_count(void);
