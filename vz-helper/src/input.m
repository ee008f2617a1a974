#import "input.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/// Memory that a line takes beyond its bytes, roughly.
enum { LineOverheadBytes = 256 };

@interface DVZInput : NSObject {
  DVZRequests *_requests;
  NSMutableData *_line;
  BOOL _tooLong;
}
@property(nonatomic, strong) DVZRequests *requests;
@property(nonatomic, strong) NSMutableData *line;
@end

/// Bytes of lines that the main thread has not come to yet.
static atomic_size_t waiting;

static void endOfFlood(void) {
  static const char text[] = "vz-helper: too many requests wait: the supervisor is broken\n";
  struct pollfd writable = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (poll(&writable, 1, 0) > 0 && write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(2);
  _exit(2);
}

@implementation DVZInput
@synthesize requests = _requests, line = _line;

// Main thread.
- (void)handle:(NSData *)line {
  @autoreleasepool {
    [_requests handle:line];
    atomic_fetch_sub(&waiting, line.length + LineOverheadBytes);
  }
}

- (void)endLine {
  NSData *line = _tooLong ? nil : [NSData dataWithData:_line];
  BOOL empty = line != nil && line.length == 0;
  _tooLong = NO;
  _line.length = 0;
  if (empty) return;
  if (atomic_fetch_add(&waiting, line.length + LineOverheadBytes) > MaxWaitingBytes) endOfFlood();
  [self performSelectorOnMainThread:@selector(handle:) withObject:line waitUntilDone:NO];
}

- (void)take:(const char *)bytes length:(size_t)length {
  while (length > 0) {
    const char *newline = memchr(bytes, '\n', length);
    size_t part = newline == NULL ? length : (size_t)(newline - bytes);
    if (_line.length + part > MaxLineBytes) _tooLong = YES;
    if (!_tooLong) [_line appendBytes:bytes length:part];
    if (newline == NULL) return;
    [self endLine];
    bytes += part + 1;
    length -= part + 1;
  }
}

- (void)read {
  char chunk[64 * 1024];
  for (;;) {
    @autoreleasepool {
      ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
      if (got > 0) [self take:chunk length:(size_t)got];
      // The supervisor is gone. macOS ends the virtual machine with this process, and no clean-up may stand in between.
      else if (got == 0 || errno != EINTR) _exit(0);
    }
  }
}
@end

void readRequests(DVZRequests *requests) {
  DVZInput *input = KEPT([[DVZInput alloc] init]);
  input.requests = requests;
  input.line = [NSMutableData data];
  [NSThread detachNewThreadSelector:@selector(read) toTarget:input withObject:nil];
}
