/*
 * Runs one command in the guest for the supervisor, over one connection.
 *
 * The supervisor sends the length of the words (24 bits, little-endian), a byte that is 0 for a command, 1 for a
 * program with pipes and 2 for one on a terminal (see program.c), the words, each ended by a NUL, and then what the
 * command reads until it shuts down its side. It gets frames: a byte that says what it is, the length (32 bits,
 * little-endian), that many bytes. `1`: standard output, `2`: standard error, `x`: exit status, `s`: the signal that
 * killed it, each as one byte; the last frame. If the supervisor closes the connection, the command is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum { MAX_WORDS_BYTES = 1024 * 1024, MAX_WORDS = 8192, CHUNK = 64 * 1024, CLOSED = -1 };

static pid_t command;
static int connection;

/* The supervisor does not want it any more, or broke the protocol. */
static noreturn void give_up(void) {
  if (command > 0) kill(-command, SIGKILL);
  _exit(1);
}

static void read_all(void *into, size_t length) {
  for (char *at = into; length > 0;) {
    ssize_t got = read(connection, at, length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) give_up();
    at += got;
    length -= (size_t)got;
  }
}

static void send_frame(char kind, const void *bytes, uint32_t length) {
  char frame[5 + CHUNK] = {kind, (char)length, (char)(length >> 8), (char)(length >> 16), (char)(length >> 24)};
  memcpy(frame + 5, bytes, length);
  for (size_t done = 0; done < 5 + length;) {
    ssize_t put = send(connection, frame + done, 5 + length - done, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) give_up();
    done += (size_t)put;
  }
}

/* Passes on what the command has printed. @returns whether there can be more */
static int pass_on(char kind, int from) {
  char chunk[CHUNK];
  ssize_t got = read(from, chunk, sizeof chunk);
  if (got < 0) return errno == EINTR;
  if (got > 0) send_frame(kind, chunk, (uint32_t)got);
  return got > 0;
}

/* Input from the supervisor that the command has not read yet. */
static char pending[CHUNK];
static size_t pending_from, pending_to;

/* Moves input towards the command. It may end without reading it: the rest is dropped then. */
static void feed(int *input, int *more, int readable) {
  if (readable && pending_from == pending_to) {
    ssize_t got = read(connection, pending, sizeof pending);
    if (got < 0 && errno != EINTR) give_up();
    if (got == 0) *more = 0;
    pending_from = 0;
    pending_to = got > 0 ? (size_t)got : 0;
  }
  if (*input != CLOSED && pending_from < pending_to) {
    ssize_t put = write(*input, pending + pending_from, pending_to - pending_from);
    if (put > 0) pending_from += (size_t)put;
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
      close(*input);
      *input = CLOSED;
    }
  }
  if (*input == CLOSED) pending_from = pending_to;
  if (*input != CLOSED && !*more && pending_from == pending_to) {
    close(*input);
    *input = CLOSED;
  }
}

noreturn void end_after_supervisor(int s) {
  char rest[4096];
  for (ssize_t got = 1; got > 0 || (got < 0 && errno == EINTR);) got = read(s, rest, sizeof rest);
  _exit(0);
}

noreturn void serve_command(int s) {
  static char text[MAX_WORDS_BYTES];
  char *words[MAX_WORDS + 1];
  uint32_t length = 0, count = 0;
  unsigned char prefix[4];
  connection = s;
  signal(SIGPIPE, SIG_IGN);
  read_all(prefix, sizeof prefix);
  for (int i = 2; i >= 0; i--) length = length << 8 | prefix[i];
  if (length == 0 || length > sizeof text) give_up();
  read_all(text, length);
  if (text[length - 1] != '\0') give_up();
  for (char *word = text; word < text + length && count < MAX_WORDS; word += strlen(word) + 1) words[count++] = word;
  words[count] = NULL;
  if (prefix[3] != 0) serve_program(s, words, prefix[3] == 2);

  int input, output, error, more = 1;
  if ((command = start_program(words, &input, &output, &error)) < 0) {
    const char *why = strerror(errno);
    send_frame('2', why, (uint32_t)strlen(why));
    send_frame('x', "\177", 1);
    end_after_supervisor(connection);
  }
  fcntl(input, F_SETFL, O_NONBLOCK);
  while (output != CLOSED || error != CLOSED) {
    int wants_input = more && pending_from == pending_to;
    struct pollfd waits[] = {
        {.fd = connection, .events = wants_input ? POLLIN : 0},
        {.fd = input, .events = pending_from < pending_to ? POLLOUT : 0},
        {.fd = output, .events = POLLIN},
        {.fd = error, .events = POLLIN},
    };
    if (poll(waits, 4, -1) < 0 && errno != EINTR) give_up();
    if (waits[0].revents & (POLLHUP | POLLERR)) give_up();
    if (waits[1].revents & POLLERR) close(input), input = CLOSED;
    if ((waits[0].revents | waits[1].revents) != 0) feed(&input, &more, waits[0].revents & POLLIN);
    if (waits[2].revents && !pass_on('1', output)) close(output), output = CLOSED;
    if (waits[3].revents && !pass_on('2', error)) close(error), error = CLOSED;
  }
  int status;
  while (waitpid(command, &status, 0) < 0)
    if (errno != EINTR) give_up();
  char code = (char)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  send_frame(WIFSIGNALED(status) ? 's' : 'x', &code, 1);
  end_after_supervisor(connection);
}
