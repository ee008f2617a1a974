// The guest of the double: a program.
#include <sys/types.h>

/// Starts `program file` in a process group of its own, its output going to `console`, its input coming from `typed`
/// or, if that is -1, from nowhere. It dies with this process. -1, and errno, on failure.
pid_t guest_start(const char *program, const char *file, int console, int typed);
/// Waits for it: its exit status, or 128 and the signal.
int guest_wait(pid_t guest);
/// A connection to the Unix socket at `path`; -1, and errno, on failure.
int guest_connect(const char *path);
