/*
 * drover-hook [PROGRAM [ARGUMENT...]] VERBOSITY: a build hook for Nix that survives the loss of a builder.
 *
 * Nix starts its build hook (`nix __build-remote`) for each remote build, and fails the build when the hook
 * loses its builder. This program stands between the two: it passes everything on, keeps what Nix has asked
 * for, and if the hook ends because its builder was lost, starts another one with the same request, which
 * chooses a builder afresh. If no builder can be reached, it has Nix ask again for a while.
 * In nix.conf: `build-hook = /path/to/drover-hook`, or with another hook than `nix __build-remote` behind it. Nix
 * appends the verbosity. Older ones take the whole setting for the name of a program.
 *
 * The protocol (Nix's hook-instance.cc, build-remote.cc): on standard input the settings, then `try` and four
 * fields for each question; on standard error lines of log and one line `# accept`, `# decline` or
 * `# postpone` for each question; after `# accept` the builder's name, and on standard input two lists. The
 * builder's log goes to descriptor 4, which hooks inherit.
 * Exit status: that of the last hook; 2 wrong usage.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum {
  MAX_ATTEMPTS = 3,
  /* Time for a builder to come back where there is no other, in seconds. */
  RETURN_SECONDS = 120,
  LONGEST_PAUSE_SECONDS = 5,
  MAX_BYTES = 64 * 1024 * 1024
};

struct bytes {
  char *data;
  size_t length, room;
};

struct hook {
  pid_t pid;
  int to;
  FILE *from;
};

enum reply { ACCEPT, POSTPONE, UNREACHABLE, OTHER, ENDED };

static const char *program;
static char **command;

static void fail(const char *what) {
  fprintf(stderr, "drover-hook: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void append(struct bytes *to, const void *data, size_t length) {
  if (to->length + length > MAX_BYTES) {
    errno = EFBIG;
    fail("Nix's request");
  }
  if (to->length + length > to->room) {
    to->room = (to->length + length) * 2;
    if ((to->data = realloc(to->data, to->room)) == NULL) fail("memory");
  }
  memcpy(to->data + to->length, data, length);
  to->length += length;
}

/* Reads exactly so many bytes of Nix's, and keeps them. 0: Nix has closed its end before the first one. */
static int take(struct bytes *to, size_t length) {
  char buffer[65536];
  for (size_t left = length; left > 0;) {
    ssize_t got = read(STDIN_FILENO, buffer, left < sizeof buffer ? left : sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("standard input");
    if (got == 0 && left == length) return 0;
    /* Nix has gone in the middle of a request. */
    if (got == 0) exit(1);
    append(to, buffer, (size_t)got);
    left -= (size_t)got;
  }
  return 1;
}

static int take_number(struct bytes *to, uint64_t *number) {
  if (!take(to, 8)) return 0;
  *number = 0;
  for (int i = 1; i <= 8; i++) *number = *number << 8 | (unsigned char)to->data[to->length - (size_t)i];
  return 1;
}

static int take_string(struct bytes *to) {
  uint64_t length;
  if (!take_number(to, &length)) return 0;
  if (length > MAX_BYTES) {
    errno = EFBIG;
    fail("Nix's request");
  }
  return length == 0 || take(to, (length + 7) / 8 * 8);
}

static int take_strings(struct bytes *to) {
  uint64_t count;
  if (!take_number(to, &count)) return 0;
  for (; count > 0; count--)
    if (!take_string(to)) return 0;
  return 1;
}

/* Whether all of it was written: a hook may end before it has read it. */
static int give(int to, const struct bytes *bytes) {
  for (size_t done = 0; done < bytes->length;) {
    ssize_t put = write(to, bytes->data + done, bytes->length - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return 0;
    done += (size_t)put;
  }
  return 1;
}

static struct hook start(void) {
  int to[2], from[2];
  if (pipe(to) != 0 || pipe(from) != 0) fail("pipe");
  struct hook hook = {.pid = fork()};
  if (hook.pid < 0) fail("fork");
  if (hook.pid == 0) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
    signal(SIGPIPE, SIG_DFL);
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDERR_FILENO);
    for (int i = 0; i < 2; i++) {
      close(to[i]);
      close(from[i]);
    }
    execvp(program, command);
    fprintf(stderr, "drover-hook: %s: %s\n", program, strerror(errno));
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  fcntl(to[1], F_SETFD, FD_CLOEXEC);
  fcntl(from[0], F_SETFD, FD_CLOEXEC);
  hook.to = to[1];
  if ((hook.from = fdopen(from[0], "r")) == NULL) fail("pipe");
  return hook;
}

static int end(struct hook *hook) {
  if (hook->to >= 0) close(hook->to);
  /* Its last words would otherwise end it with SIGPIPE. */
  while (getc(hook->from) != EOF) continue;
  fclose(hook->from);
  int status = 0;
  while (waitpid(hook->pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* As Nix's own programs report to the one that started them. */
static void report(const char *text) {
  fprintf(stderr, "@nix {\"action\":\"msg\",\"level\":1,\"msg\":\"drover-hook: %s\"}\n", text);
}

/*
 * Reads up to the hook's answer. What it says is passed on if `pass` is set. A hook declines where no builder
 * can be reached, and Nix then fails the build unless it can do it itself: within the time that `unreachable`
 * has left, such an answer becomes POSTPONE, and the hook's words about it are not passed on.
 */
static enum reply read_reply(struct hook *hook, int pass, time_t *unreachable) {
  char *line = NULL, *refusal = NULL;
  size_t room = 0;
  enum reply reply = ENDED;
  int is_down = 0;
  while (reply == ENDED && getline(&line, &room, hook->from) > 0) {
    if (strstr(line, "cannot build on '") != NULL) is_down = 1;
    if (strstr(line, "Failed to find a machine for remote build!") != NULL && strstr(line, "\"level\":1") != NULL) {
      free(refusal);
      refusal = line;
      line = NULL;
      room = 0;
      continue;
    }
    if (strcmp(line, "# accept\n") == 0) reply = ACCEPT;
    else if (strcmp(line, "# postpone\n") == 0) reply = POSTPONE;
    else if (strncmp(line, "# ", 2) == 0) reply = OTHER;
    if (reply == OTHER && is_down && refusal != NULL && pass) {
      time_t now = time(NULL);
      if (*unreachable == 0) {
        *unreachable = now;
        report("no builder can be reached; waiting for one");
      }
      if (now - *unreachable <= RETURN_SECONDS) {
        fputs("# postpone\n", stderr);
        reply = UNREACHABLE;
        break;
      }
    }
    if (refusal != NULL && pass) fputs(refusal, stderr);
    free(refusal);
    refusal = NULL;
    if (pass) fputs(line, stderr);
  }
  /* The builder's name. */
  if (reply == ACCEPT && getline(&line, &room, hook->from) > 0 && pass) fputs(line, stderr);
  free(line);
  free(refusal);
  return reply;
}

/* Whether a hook's last words say that it lost its builder, and not that the build failed there. */
static int is_loss(const char *line) {
  static const char *const losses[] = {
      "unexpected end-of-file",
      "disconnected unexpectedly",
      "Broken pipe",
      "Connection reset by peer",
      "drover: Drover is shutting down",
  };
  if (strncmp(line, "@nix ", 5) != 0 || strstr(line, "\"level\":0") == NULL) return 0;
  if (strstr(line, "build of '") != NULL && strstr(line, "' failed: ") != NULL) return 0;
  for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
    if (strstr(line, losses[i]) != NULL) return 1;
  return 0;
}

static int is_error(const char *line) { return strstr(line, "\"action\":\"msg\"") != NULL && strstr(line, "\"level\":0") != NULL; }

/* Passes a hook's lines on until it ends. An error is held back, and stays in `last` if nothing follows it. */
static void relay(struct hook *hook, char **last) {
  char *line = NULL;
  size_t room = 0;
  *last = NULL;
  while (getline(&line, &room, hook->from) > 0) {
    if (*last != NULL) fputs(*last, stderr);
    free(*last);
    *last = NULL;
    if (is_error(line)) {
      *last = line;
      line = NULL;
      room = 0;
    } else fputs(line, stderr);
  }
  free(line);
}

/* Asks new hooks until one has a builder. @returns whether one has */
static int find_builder(struct hook *hook, const struct bytes *settings, const struct bytes *question) {
  time_t lost = time(NULL);
  for (unsigned pause = 1;; pause = pause < LONGEST_PAUSE_SECONDS ? pause + 1 : LONGEST_PAUSE_SECONDS) {
    *hook = start();
    enum reply reply = give(hook->to, settings) && give(hook->to, question) ? read_reply(hook, 0, NULL) : ENDED;
    if (reply == ACCEPT) return 1;
    end(hook);
    /* All builders are busy: that may take long. */
    if (reply != POSTPONE && time(NULL) - lost > RETURN_SECONDS) return 0;
    sleep(pause);
  }
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: drover-hook [PROGRAM [ARGUMENT...]] VERBOSITY\n");
    return 2;
  }
  /* Every version of Nix is its own hook under this name. */
  char *nix[] = {"build-remote", argv[1], NULL};
  program = argc == 2 ? "nix" : argv[1];
  command = argc == 2 ? nix : argv + 1;
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stderr, NULL, _IOLBF, 65536);
  struct bytes settings = {0}, question = {0}, work = {0};
  for (uint64_t more = 1; more != 0;) {
    if (!take_number(&settings, &more)) return 0;
    if (more != 0 && (!take_string(&settings) || !take_string(&settings))) return 0;
  }
  struct hook hook = start();
  give(hook.to, &settings);
  time_t unreachable = 0;
  for (enum reply reply = OTHER; reply != ACCEPT;) {
    question.length = 0;
    uint64_t local;
    if (!take_string(&question) || !take_number(&question, &local) || !take_string(&question) || !take_string(&question) ||
        !take_strings(&question))
      return end(&hook);
    if (reply == UNREACHABLE) {
      /* A hook never tries such a builder again. */
      end(&hook);
      hook = start();
      give(hook.to, &settings);
    }
    give(hook.to, &question);
    reply = read_reply(&hook, 1, &unreachable);
    if (reply == ENDED) return end(&hook);
  }
  if (!take_strings(&work) || !take_strings(&work)) return 1;
  for (int attempt = 1;; attempt++) {
    give(hook.to, &work);
    close(hook.to);
    hook.to = -1;
    char *last;
    relay(&hook, &last);
    int status = end(&hook);
    int lost = status != 0 && last != NULL && is_loss(last);
    if (lost && attempt < MAX_ATTEMPTS) {
      report("the builder was lost; building again");
      if (find_builder(&hook, &settings, &question)) {
        free(last);
        continue;
      }
    }
    if (last != NULL) fputs(last, stderr);
    return status;
  }
}
