#import "double.h"

#import <IOKit/IOMessage.h>
#import <IOKit/pwr_mgt/IOPMLib.h>
#import <Security/SecTask.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

@implementation NSProcessInfo (Double)
- (NSOperatingSystemVersion)operatingSystemVersion {
  NSString *text = knobValue("macos");
  NSArray *parts = [(text == nil ? @"15.0.0" : text) componentsSeparatedByString:@"."];
  NSOperatingSystemVersion version = {[[parts objectAtIndex:0] integerValue],
                                      [[parts objectAtIndex:1] integerValue],
                                      [[parts objectAtIndex:2] integerValue]};
  return version;
}
@end

NSString *const NSURLVolumeAvailableCapacityForImportantUsageKey = @"NSURLVolumeAvailableCapacityForImportantUsageKey";

@interface NSURL (Double)
@end
// In place of GNUstep's, which knows other keys.
#pragma clang diagnostic ignored "-Wobjc-protocol-method-implementation"
@implementation NSURL (Double)
- (BOOL)getResourceValue:(id *)value forKey:(NSString *)key error:(NSError **)error {
  struct statfs volume;
  if (![key isEqualToString:NSURLVolumeAvailableCapacityForImportantUsageKey] ||
      statfs(self.path.fileSystemRepresentation, &volume) != 0) {
    *error = [NSError errorWithDomain:@"NSCocoaErrorDomain" code:260 userInfo:nil];
    return NO;
  }
  unsigned long long bytes = volume.f_bavail * (unsigned long long)volume.f_bsize;
  *value = [NSNumber numberWithUnsignedLongLong:bytes + (unsigned long long)[knobValue("purgeable") longLongValue]];
  return YES;
}
@end

int getpeereid(int socket, uid_t *uid, gid_t *gid) {
  struct {
    pid_t pid;
    uid_t uid;
    gid_t gid;
  } peer;
  socklen_t length = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
  *uid = peer.uid;
  *gid = peer.gid;
  return 0;
}

// MARK: versions and sockets

/// The build for Linux has this in place of @available, which is always true there.
BOOL double_available(int major) { return [[NSProcessInfo processInfo] operatingSystemVersion].majorVersion >= major; }

/// The framework passes no half-close on to the guest.
int double_shutdown(int descriptor, int how) {
  struct sockaddr_un peer = {0};
  socklen_t length = sizeof peer;
  BOOL toGuest = getpeername(descriptor, (struct sockaddr *)&peer, &length) == 0 && length > sizeof(sa_family_t) &&
                 strstr(peer.sun_path, "/vsock/") != NULL;
  if (how == SHUT_WR && toGuest && !knob("halfClose")) return 0;
  return shutdown(descriptor, how);
}

// MARK: Security

struct __SecTask {
  int unused;
};
static struct __SecTask ownTask;
SecTaskRef SecTaskCreateFromSelf(CFAllocatorRef allocator) {
  (void)allocator;
  return &ownTask;
}
CFTypeRef SecTaskCopyValueForEntitlement(SecTaskRef task, CFStringRef entitlement, CFErrorRef *error) {
  (void)task;
  (void)error;
  BOOL known = [(NSString *)entitlement isEqualToString:@"com.apple.security.virtualization"];
  return known && !knob("unentitled") && !knob("entitlementHidden") ? (CFTypeRef)[NSNumber numberWithBool:YES] : NULL;
}
void CFRelease(CFTypeRef object) { (void)object; }

// MARK: IOKit and run loops: one listener, whose run loop reads from a pipe what signal handlers write to it.

const CFRunLoopMode kCFRunLoopDefaultMode = NULL;
static int signals[2];
static IOServiceInterestCallback callback;
static void *callbackContext;
static long allowed;

static void onSignal(int signal) {
  char byte = (char)signal;
  if (write(signals[1], &byte, 1) < 0) abort();
}

void takeSignals(void) {
  if (pipe2(signals, O_CLOEXEC) != 0) abort();
  signal(SIGUSR1, onSignal);
  signal(SIGUSR2, onSignal);
}

io_connect_t IORegisterForSystemPower(void *context, IONotificationPortRef *port, IOServiceInterestCallback f,
                                      io_object_t *notifier) {
  if (knob("sleepUntold")) return 0;
  callback = f;
  callbackContext = context;
  *port = NULL;
  *notifier = 1;
  return 1;
}
IOReturn IOAllowPowerChange(io_connect_t port, long notification) {
  (void)port;
  allowed = notification;
  return 0;
}
CFRunLoopSourceRef IONotificationPortGetRunLoopSource(IONotificationPortRef port) {
  (void)port;
  return NULL;
}
CFRunLoopRef CFRunLoopGetCurrent(void) { return NULL; }
void CFRunLoopAddSource(CFRunLoopRef loop, CFRunLoopSourceRef source, CFRunLoopMode mode) {
  (void)loop;
  (void)source;
  (void)mode;
}

/// A Mac that gets no answer waits for half a minute; here that is the end.
static void expectAnswer(uint32_t message, long notification) {
  callback(callbackContext, 0, message, (void *)notification);
  if (allowed != notification) abort();
}

void CFRunLoopRun(void) {
  char byte;
  for (long notification = 1; read(signals[0], &byte, 1) == 1; notification += 2) {
    if (byte == SIGUSR1) {
      expectAnswer(kIOMessageCanSystemSleep, notification);
      expectAnswer(kIOMessageSystemWillSleep, notification + 1);
    } else {
      callback(callbackContext, 0, kIOMessageSystemHasPoweredOn, NULL);
    }
  }
}
