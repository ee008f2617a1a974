// The kernel's side: requests of the FUSE protocol, answered from what is shown. Only READ goes to the share below.
#pragma once
#include <stdbool.h>

/// Mounts on the directory. Returns false, with errno.
bool requests_mount(const char *mountpoint);
/// Answers the first request, the kernel's greeting. Returns false if the kernel is too old.
bool requests_greet(void);
/// Answers requests until the file system is unmounted, then returns. Runs in several threads.
void requests_serve(void);
/// Has the kernel forget a name in the root directory.
void requests_invalidate(const char *name);
void requests_close(void);
