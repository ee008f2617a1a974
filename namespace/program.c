/*
 * Runs a program in the guest for a person, over one connection: with pipes, or on a terminal of its own.
 *
 * After the words (agent.c) the supervisor sends frames of the same form, too. `i`: input, of which at most 256 KiB may
 * be unread; `e`: its end; `w`: the terminal's rows and columns (16 bits each, little-endian); `k`: a signal for the
 * program's process group, as one byte. Besides the frames of agent.c it gets `a`: number of bytes of input that the
 * program has taken (32 bits, little-endian). If the supervisor closes the connection, the program is hung up and
 * killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "common.h"

enum { CHUNK = 64 * 1024, HEADER = 5, MAX_INPUT = 256 * 1024, CLOSED = -1 };

static pid_t program;
static int connection, input, output, error, is_terminal;
/* Frames from the supervisor, as far as they have come. */
static unsigned char received[HEADER + CHUNK];
static size_t received_bytes;
/* Input that the program has not taken, how much it has taken since that was last said, and whether more can come. */
static char queue[MAX_INPUT];
static size_t queue_bytes, taken_bytes;
static int input_ended;
/* The frame that goes to the supervisor. */
static char sending[HEADER + CHUNK];
static size_t sending_from, sending_to;

static noreturn void give_up(void) {
  if (program > 0) {
    kill(-program, SIGHUP);
    kill(-program, SIGCONT);
    kill(-program, SIGKILL);
  }
  _exit(1);
}

static uint32_t number(const unsigned char *bytes, int count) {
  uint32_t result = 0;
  while (count-- > 0) result = result << 8 | bytes[count];
  return result;
}

static void put_frame(char kind, uint32_t length) {
  const char header[HEADER] = {kind, (char)length, (char)(length >> 8), (char)(length >> 16), (char)(length >> 24)};
  memcpy(sending, header, HEADER);
  sending_from = 0;
  sending_to = HEADER + length;
}

static void put_bytes(char kind, const void *bytes, uint32_t length) {
  memcpy(sending + HEADER, bytes, length);
  put_frame(kind, length);
}

static void take_frame(char kind, const unsigned char *content, uint32_t length) {
  if (kind == 'i') {
    if (input_ended || queue_bytes + length > sizeof queue) give_up();
    memcpy(queue + queue_bytes, content, length);
    queue_bytes += length;
  } else if (kind == 'e') {
    input_ended = 1;
  } else if (kind == 'w' && length == 4) {
    struct winsize size = {.ws_row = (unsigned short)number(content, 2), .ws_col = (unsigned short)number(content + 2, 2)};
    if (is_terminal) ioctl(output, TIOCSWINSZ, &size);
  } else if (kind == 'k' && length == 1) {
    kill(-program, content[0]);
  } else {
    give_up();
  }
}

static void receive(void) {
  ssize_t got = read(connection, received + received_bytes, sizeof received - received_bytes);
  if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) give_up();
  if (got > 0) received_bytes += (size_t)got;
  size_t from = 0;
  while (received_bytes - from >= HEADER) {
    uint32_t length = number(received + from + 1, 4);
    if (length > CHUNK) give_up();
    if (received_bytes - from < HEADER + length) break;
    take_frame((char)received[from], received + from + HEADER, length);
    from += HEADER + length;
  }
  memmove(received, received + from, received_bytes -= from);
}

static void feed(void) {
  ssize_t put = input == CLOSED ? (ssize_t)queue_bytes : write(input, queue, queue_bytes);
  if (put < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    /* It reads no more: what comes is dropped. */
    if (input != output) close(input);
    input = CLOSED;
    return;
  }
  taken_bytes += (size_t)put;
  memmove(queue, queue + put, queue_bytes -= (size_t)put);
}

/* @returns whether there can be more */
static int pass_on(char kind, int from) {
  ssize_t got = read(from, sending + HEADER, CHUNK);
  if (got < 0) return errno == EINTR || errno == EAGAIN; /* EIO: no process has the terminal open any more */
  if (got > 0) put_frame(kind, (uint32_t)got);
  return got > 0;
}

static void flush(void) {
  ssize_t put = send(connection, sending + sending_from, sending_to - sending_from, MSG_NOSIGNAL);
  if (put < 0 && errno != EINTR && errno != EAGAIN) give_up();
  if (put > 0) sending_from += (size_t)put;
}

/* Without a path: the terminal is that of this guest, whatever is mounted in it. */
static pid_t start_on_terminal(char *const words[]) {
  int unlocked = 0, terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0 || ioctl(terminal, TIOCSPTLCK, &unlocked) < 0) return -1;
  int side = ioctl(terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (side < 0) return -1;
  pid_t pid = fork();
  if (pid < 0) return -1;
  if (pid == 0) {
    setsid();
    ioctl(side, TIOCSCTTY, 0);
    for (int i = 0; i < 3; i++) dup2(side, i);
    run_program(words);
  }
  close(side);
  input = output = terminal;
  error = CLOSED;
  return pid;
}

/* Sends what is left, and ends. */
static noreturn void finish(void) {
  fcntl(connection, F_SETFL, 0);
  while (sending_from < sending_to) flush();
  end_after_supervisor(connection);
}

noreturn void serve_program(int s, char *const words[], int on_terminal) {
  connection = s;
  is_terminal = on_terminal;
  program = on_terminal ? start_on_terminal(words) : start_program(words, &input, &output, &error);
  if (program < 0) {
    const char *why = strerror(errno);
    put_bytes('2', why, (uint32_t)strlen(why));
    while (sending_from < sending_to) flush();
    put_bytes('x', "\177", 1);
    finish();
  }
  fcntl(connection, F_SETFL, O_NONBLOCK);
  fcntl(input, F_SETFL, O_NONBLOCK);
  while (output != CLOSED || error != CLOSED) {
    int idle = sending_from == sending_to;
    if (idle && taken_bytes > 0) {
      unsigned char bytes[4];
      for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(taken_bytes >> 8 * i);
      put_bytes('a', bytes, 4);
      taken_bytes = idle = 0;
    }
    int feeds = queue_bytes > 0 && input != CLOSED;
    struct pollfd waits[] = {
        {.fd = connection, .events = (short)(POLLIN | (idle ? 0 : POLLOUT))},
        {.fd = feeds ? input : CLOSED, .events = POLLOUT},
        {.fd = idle ? output : CLOSED, .events = POLLIN},
        {.fd = idle ? error : CLOSED, .events = POLLIN},
    };
    if (poll(waits, 4, -1) < 0 && errno != EINTR) give_up();
    if (waits[0].revents & (POLLIN | POLLHUP | POLLERR)) receive();
    if (waits[0].revents & POLLOUT) flush();
    if (waits[1].revents || (queue_bytes > 0 && input == CLOSED)) feed();
    if (input_ended && queue_bytes == 0 && input != CLOSED && !is_terminal) close(input), input = CLOSED;
    if (waits[2].revents && !pass_on('1', output)) {
      close(output);
      if (input == output) input = CLOSED;
      output = CLOSED;
    }
    if (waits[3].revents && sending_from == sending_to && !pass_on('2', error)) close(error), error = CLOSED;
  }
  int status;
  while (waitpid(program, &status, 0) < 0)
    if (errno != EINTR) give_up();
  fcntl(connection, F_SETFL, 0);
  while (sending_from < sending_to) flush();
  char code = (char)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  put_bytes(WIFSIGNALED(status) ? 's' : 'x', &code, 1);
  finish();
}
