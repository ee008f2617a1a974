#define _GNU_SOURCE
#include "control.h"
#include "requests.h"
#include "say.h"
#include "source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char Path[] = "path ", Marker[] = "registration\n";

static int open_socket(const char *socketPath, struct sockaddr_un *address) {
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (strlen(socketPath) >= sizeof address->sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address->sun_path, socketPath);
  return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

// MARK: server

int control_listen(const char *socketPath) {
  struct sockaddr_un address;
  int listener = open_socket(socketPath, &address);
  if (listener < 0) return -1;
  unlink(socketPath);
  mode_t mask = umask(077);
  int failed = bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16);
  umask(mask);
  return failed ? -1 : listener;
}

/// State of one client's connection.
struct session {
  FILE *out;
  char name[256];
  struct listing listing;
  bool reading;
  unsigned long maxBytes;
};

static void show(struct session *s) {
  bool replaced = false;
  s->reading = false;
  if (shown_same(s->name, &s->listing)) listing_free(&s->listing);
  else if (!source_has(s->name) || !shown_add(s->name, &s->listing, s->maxBytes, &replaced)) {
    listing_free(&s->listing);
    fprintf(s->out, "missing %s\n", s->name);
  } else if (replaced) {
    source_forget();
    requests_invalidate(s->name);
  }
}

static bool is_store_name(const char *name) {
  size_t length = strlen(name);
  return length > 33 && length < sizeof((struct session *)0)->name && name[32] == '-' && !strchr(name, '/');
}

/// Returns what is wrong with the line, or NULL.
static const char *take(struct session *s, char *line) {
  if (s->reading) {
    const char *problem = listing_take(&s->listing, line);
    if (!problem && listing_complete(&s->listing)) show(s);
    return problem;
  }
  if (strncmp(line, Path, strlen(Path)) || !is_store_name(line + strlen(Path))) return "not a line `path NAME`";
  strcpy(s->name, line + strlen(Path));
  s->reading = listing_begin(&s->listing);
  return s->reading ? NULL : "no memory";
}

static void tell_status(FILE *out) {
  struct shown_counts shown = shown_count();
  struct source_counts source = source_count();
  fprintf(out, "paths %zu files %zu listing_bytes %zu opens %lu reads %lu bytes %lu retries %lu forgets %lu\n", shown.paths,
          shown.files, shown.bytes, source.opens, source.reads, source.bytes, source.retries, source.forgets);
}

static void serve_client(FILE *in, FILE *out, unsigned long maxBytes, char *line) {
  struct session s = {.out = out, .maxBytes = maxBytes};
  const char *problem = NULL;
  while (!problem && fgets(line, ListingLineBytes, in)) {
    size_t length = strlen(line);
    if (!length || line[length - 1] != '\n') problem = "a line that is too long or cut";
    else {
      line[length - 1] = 0;
      if (!strcmp(line, "?")) tell_status(out);
      else problem = take(&s, line);
    }
  }
  if (!problem && s.reading) problem = "the listing is cut";
  if (s.reading) listing_free(&s.listing);
  if (problem) fprintf(out, "error %s%s%s\n", problem, *s.name ? " in the listing of " : "", s.name);
  else fputs("done\n", out);
}

void control_serve(int listener, unsigned long maxBytes) {
  static char line[ListingLineBytes];
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), copy = fd < 0 ? -1 : dup(fd);
    if (fd < 0) continue;
    FILE *in = fdopen(fd, "r"), *out = copy < 0 ? NULL : fdopen(copy, "w");
    if (in && out) serve_client(in, out, maxBytes, line);
    if (out) fclose(out);
    if (in) fclose(in);
    else close(fd);
  }
}

// MARK: client

static int fail(const char *what) {
  fprintf(stderr, "exact-store: %s: %s\n", what, strerror(errno));
  return 1;
}

static int connect_to(const char *socketPath) {
  struct sockaddr_un address;
  int fd = open_socket(socketPath, &address);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) return -1;
  return fd;
}

static bool write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(fd, bytes, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes += written;
    length -= (size_t)written;
  }
  return true;
}

/// All of standard input, with a NUL after it; NULL, and errno.
static char *read_all(size_t *length) {
  size_t room = 1 << 16, used = 0;
  char *bytes = malloc(room);
  for (ssize_t got = 1; bytes && got > 0;) {
    if (used + 1 == room) {
      char *more = realloc(bytes, room *= 2);
      if (!more) {
        free(bytes);
        return NULL;
      }
      bytes = more;
    }
    got = read(0, bytes + used, room - used - 1);
    if (got < 0 && errno == EINTR) got = 1;
    else if (got < 0) {
      free(bytes);
      return NULL;
    } else used += (size_t)got;
  }
  if (bytes) bytes[*length = used] = 0;
  return bytes;
}

/// Calls `with` for each path of the listings, until it returns false.
static bool for_each_path(const char *listings, const char *store, bool (*with)(const char *path)) {
  char path[4096];
  for (const char *line = listings; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
    if (strncmp(line, Path, strlen(Path))) continue;
    const char *name = line + strlen(Path);
    if (snprintf(path, sizeof path, "%s/%.*s", store, (int)strcspn(name, "\n"), name) >= (int)sizeof path) return false;
    if (!with(path)) return false;
  }
  return true;
}

// / overlayfs remembers that a name was absent; a directory of its own that comes and goes makes it forget. A name that
// is / there already stays as it is.
static bool refresh(const char *path) {
  if (mkdir(path, 0700) == 0) rmdir(path);
  return true;
}

static bool is_there(const char *path) {
  struct stat status;
  return lstat(path, &status) == 0;
}

/// Prints the paths that are not shown. Returns how many, or -1.
static int print_answer(FILE *in, const char *store) {
  char line[512];
  int missing = 0;
  while (fgets(line, sizeof line, in)) {
    if (!strcmp(line, "done\n")) return missing;
    if (!strncmp(line, "missing ", 8)) {
      printf("%s/%s", store, line + 8);
      missing++;
    } else break;
  }
  fprintf(stderr, "exact-store: %s", strncmp(line, "error ", 6) ? "it has ended\n" : line + 6);
  return -1;
}

int control_register(const char *socketPath, const char *store, int fd) {
  size_t length;
  char *input = read_all(&length);
  if (!input) return fail("standard input");
  char *marker = !strncmp(input, Marker, strlen(Marker)) ? input : strstr(input, "\nregistration\n");
  if (!marker) {
    fputs("exact-store: the input has no line `registration`\n", stderr);
    return 1;
  }
  if (marker != input) marker++;
  char *rest = marker + strlen(Marker);
  *marker = 0;
  for_each_path(input, store, refresh);
  int server = connect_to(socketPath);
  if (server < 0) return fail(socketPath);
  if (!write_all(server, input, (size_t)(marker - input)) || shutdown(server, SHUT_WR)) return fail(socketPath);
  FILE *answer = fdopen(server, "r");
  int missing = answer ? print_answer(answer, store) : -1;
  if (missing != 0) return missing < 0 ? 1 : 3;
  // A build may have looked for a path between the two steps above.
  if (!for_each_path(input, store, is_there) && mount("overlay", store, NULL, MS_REMOUNT, NULL)) return fail(store);
  if (!for_each_path(input, store, is_there)) return fail(store);
  return write_all(fd, rest, (size_t)(input + length - rest)) ? 0 : fail("the registration");
}

int control_send(const char *socketPath, FILE *listings) {
  static char bytes[1 << 16];
  int server = connect_to(socketPath);
  if (server < 0) return fail(socketPath);
  for (size_t got; (got = fread(bytes, 1, sizeof bytes, listings)) > 0;)
    if (!write_all(server, bytes, got)) return fail(socketPath);
  FILE *answer = shutdown(server, SHUT_WR) ? NULL : fdopen(server, "r");
  return answer && print_answer(answer, "missing:") == 0 ? 0 : 1;
}

int control_status(const char *socketPath) {
  int server = connect_to(socketPath);
  if (server < 0 || !write_all(server, "?\n", 2) || shutdown(server, SHUT_WR)) return fail(socketPath);
  char line[512];
  ssize_t got = read(server, line, sizeof line);
  return got > 0 && write_all(1, line, (size_t)got) ? 0 : fail(socketPath);
}
