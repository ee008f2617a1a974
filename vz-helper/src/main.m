// vz-helper: one virtual machine of Virtualization.framework, driven by JSON lines (see PROTOCOL.md). It ends
// with the process that started it.
//
// Threads: the main one runs everything that touches the machine. Others read stdin, copy the console, wait
// for power changes, accept vsock connections, and copy each connection's bytes; they post to the main one.
#import "guest.h"
#import "input.h"
#import "power.h"
#import "requests.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/// Two descriptors a connection; launchd's own limit is 256.
enum { WantedDescriptors = 4096 };

static void prepareProcess(void) {
  umask(077);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN); // a console log that may not grow is no reason to end a guest
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= WantedDescriptors) return;
  limit.rlim_cur = limit.rlim_max < WantedDescriptors ? limit.rlim_max : WantedDescriptors;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int main(void) {
  @autoreleasepool {
    prepareProcess();
    // Before the threads that post to it. Without a source it would not wait.
    NSRunLoop *loop = [NSRunLoop mainRunLoop];
    [loop addPort:[NSPort port] forMode:NSDefaultRunLoopMode];
    preparePower();
    readRequests([DVZRequests of:KEPT([[DVZGuest alloc] init])]);
    for (;;) {
      @autoreleasepool {
        [loop runMode:NSDefaultRunLoopMode beforeDate:[NSDate distantFuture]];
      }
    }
  }
}
