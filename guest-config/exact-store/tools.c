#define _GNU_SOURCE
#include "tools.h"
#include "control.h"
#include "listing.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what) {
  fprintf(stderr, "exact-store: %s: %s\n", what, strerror(errno));
  return 1;
}

// MARK: list

static void print_word(const char *word) {
  for (; *word; word++) {
    unsigned char c = (unsigned char)*word;
    if (c > ' ' && c < 0x7f && c != '%') putchar(c);
    else printf("%%%02X", c);
  }
}

/// Prints the line of one file. Returns 1 for a directory, 0 for others, -1 and errno.
static int print_entry(const char *path, const char *name) {
  struct stat status;
  char target[PATH_MAX];
  if (lstat(path, &status)) return -1;
  if (S_ISDIR(status.st_mode)) fputs("d 0 ", stdout);
  else if (S_ISREG(status.st_mode)) printf("%c %lld ", status.st_mode & 0100 ? 'x' : 'f', (long long)status.st_size);
  else if (S_ISLNK(status.st_mode)) {
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) return -1;
    target[length] = 0;
    fputs("l ", stdout);
    print_word(target);
    putchar(' ');
  } else {
    errno = EINVAL;
    return -1;
  }
  print_word(name);
  putchar('\n');
  return S_ISDIR(status.st_mode);
}

static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int is_child(const struct dirent *d) { return strcmp(d->d_name, ".") && strcmp(d->d_name, ".."); }

/// Directories whose children are still to be printed, in order.
struct queue {
  char **paths;
  size_t count, room, next;
};
static void push(struct queue *q, const char *path) {
  if (q->count == q->room) q->paths = realloc(q->paths, (q->room = q->room * 2 + 64) * sizeof *q->paths);
  if (!q->paths || !(q->paths[q->count++] = strdup(path))) abort();
}

static int print_children(const char *directory, struct queue *q) {
  struct dirent **children;
  int count = scandir(directory, &children, is_child, by_bytes);
  if (count < 0) return -1;
  for (int i = 0; i < count; i++) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, children[i]->d_name) >= (int)sizeof path) return -1;
    int isDirectory = print_entry(path, children[i]->d_name);
    if (isDirectory < 0) return -1;
    if (isDirectory) push(q, path);
    free(children[i]);
  }
  free(children);
  putchar('\n');
  return 0;
}

int tools_list(char **paths) {
  for (; *paths; paths++) {
    const char *slash = strrchr(*paths, '/');
    struct queue q = {0};
    printf("path %s\n", slash ? slash + 1 : *paths);
    int isDirectory = print_entry(*paths, ".");
    if (isDirectory > 0) push(&q, *paths);
    for (; isDirectory >= 0 && q.next < q.count; free(q.paths[q.next++]))
      if (print_children(q.paths[q.next], &q)) isDirectory = -1;
    free(q.paths);
    if (isDirectory < 0) return fail(*paths);
  }
  return fflush(stdout) ? fail("standard output") : 0;
}

// MARK: show

/// Names of one directory, so far.
struct names {
  char **names;
  size_t count, room;
};

static void forget(struct names *n) {
  while (n->count > 0) free(n->names[--n->count]);
}

/// The number that Nix appends to the name, or 0.
static unsigned number_of(struct names *n, const char *name) {
  unsigned before = 0;
  for (size_t i = 0; i < n->count; i++)
    if (!strcasecmp(n->names[i], name)) before++;
  if (n->count == n->room) n->names = realloc(n->names, (n->room = n->room * 2 + 64) * sizeof *n->names);
  if (!n->names || !(n->names[n->count++] = strdup(name))) abort();
  return before;
}

/// Copies the listings, with the names on disk added.
static void add_sources(FILE *in, FILE *out) {
  static char line[ListingLineBytes];
  struct names seen = {0};
  while (fgets(line, sizeof line, in)) {
    char *end = strchr(line, '\n'), *name = strrchr(line, ' ');
    if (end) *end = 0;
    bool isName = name && strncmp(line, "path ", 5) && strcmp(name + 1, ".");
    unsigned number = isName ? number_of(&seen, name + 1) : 0;
    if (!isName) forget(&seen);
    if (number) fprintf(out, "%s %s~nix~case~hack~%u\n", line, name + 1, number);
    else fprintf(out, "%s\n", line);
  }
  forget(&seen);
  free(seen.names);
}

int tools_show(const char *socketPath, const char *host) {
  if (!strcmp(host, "literal")) return control_send(socketPath, stdin);
  if (strcmp(host, "case-hack")) {
    fputs("exact-store: show SOCKET literal|case-hack\n", stderr);
    return 2;
  }
  FILE *hacked = tmpfile();
  if (!hacked) return fail("a temporary file");
  add_sources(stdin, hacked);
  rewind(hacked);
  return control_send(socketPath, hacked);
}
