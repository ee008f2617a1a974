// A guest's console output, in a file of bounded size and, if that is wanted, to a descriptor.
#include <stdbool.h>
#include <stddef.h>

struct console;

/// Makes the file. What is written to `*writeEnd` ends up in it, once console_start has been called; the file never
/// grows beyond `maxBytes` (at least 4096): when it would, its older half goes. `terminal` is a descriptor that gets
/// the same, and that the guest waits for, as for any terminal; -1: none. NULL, and errno, on failure.
struct console *console_open(const char *path, size_t maxBytes, int terminal, int *writeEnd);

/// Undoes console_open, unless console_start has succeeded; the file stays. Keeps errno.
void console_close(struct console *console);

/// Starts to copy. `failed` is called once, from another thread, when the file cannot be written; what is printed is
/// read all the same, so that the guest never waits. False, and errno, on failure.
bool console_start(struct console *console, void (*failed)(int errnum));

/// Writes what has been printed so far: for the end of a guest.
void console_drain(struct console *console);
