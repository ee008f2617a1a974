#import "double.h"

#import <Virtualization/Virtualization.h>

#include "guest.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { Internal = 1, InvalidTransition = 4, NetworkError = 7 }; // of VZError.h
enum { ConnectionResetOnMacOS = 54, ResetAfterMs = 50, StatusOfPanic = 77 };

/// The framework's own rule: a machine is touched from its queue only.
static void onQueue(void) {
  if ([NSThread isMainThread]) return;
  static const char text[] = "the double: the machine was touched from another thread than its queue's\n";
  if (write(STDERR_FILENO, text, sizeof text - 1) > 0) abort();
  abort();
}

// One machine a process.
static VZVirtualMachineState state;
static VZVirtioSocketDevice *vsock;
static id<VZVirtualMachineDelegate> delegate;
static VZVirtualMachineConfiguration *configuration;
static NSString *vsockDir;
static pid_t guest;

@interface VZVirtioSocketConnection (Double)
+ (instancetype)of:(int)descriptor;
@end

static uint32_t nextPort = 1 << 30;

@implementation VZVirtioSocketConnection
+ (instancetype)of:(int)descriptor {
  VZVirtioSocketConnection *connection = (id)[(VZDoubleObject *)[VZVirtioSocketConnection alloc] init];
  [connection->values setObject:[NSNumber numberWithInt:descriptor] forKey:@"descriptor"];
  [connection->values setObject:[NSNumber numberWithUnsignedInt:nextPort++] forKey:@"port"];
  return [connection autorelease];
}
- (int)fileDescriptor {
  onQueue();
  return [[values objectForKey:@"descriptor"] intValue];
}
- (uint32_t)sourcePort {
  onQueue();
  return [[values objectForKey:@"port"] unsignedIntValue];
}
/// Only this descriptor of the connection: a copy of it lives on.
- (void)end {
  int descriptor = [[values objectForKey:@"descriptor"] intValue];
  if (descriptor < 0) return;
  close(descriptor);
  [values setObject:[NSNumber numberWithInt:-1] forKey:@"descriptor"];
}
- (void)close {
  onQueue();
  [self end];
}
- (void)dealloc {
  [self end];
  [super dealloc];
}
@end

@implementation VZVirtioSocketDevice
- (void)connectToPort:(uint32_t)port completionHandler:(void (^)(VZVirtioSocketConnection *, NSError *))handler {
  onQueue();
  if (knob("connectThrows")) [NSException raise:NSInternalInconsistencyException format:@"connect throws"];
  if (knob("connectHangs")) return;
  NSString *path = [NSString stringWithFormat:@"%@/%u.sock", vsockDir, port];
  int descriptor = vsockDir == nil ? -1 : guest_connect(path.UTF8String);
  laterBy(descriptor >= 0 ? 0 : ResetAfterMs, ^{
    if (descriptor >= 0) handler([VZVirtioSocketConnection of:descriptor], nil);
    else
      handler(
          nil,
          [NSError
              errorWithDomain:NSPOSIXErrorDomain
                         code:ConnectionResetOnMacOS
                     userInfo:[NSDictionary
                                  dictionaryWithObject:@"The operation couldn’t be completed. Connection reset by peer"
                                                forKey:NSLocalizedDescriptionKey]]);
  });
}
@end

@implementation VZSocketDevice
@end

@interface VZVirtualMachine (Double)
- (NSError *)startGuest;
@end

/// As on a Mac, whenever the machine boots.
static void loseNetwork(VZVirtualMachine *machine) {
  if (!knob("networkLost")) return;
  [delegate virtualMachine:machine networkDevice:(id)[[[VZDoubleObject alloc] init] autorelease]
      attachmentWasDisconnectedWithError:vzError(NetworkError, @"The network is gone.")];
}

/// The process of the guest has ended.
static void guestEnded(VZVirtualMachine *machine, int status) {
  guest = 0;
  if (knob("panicResets") && status == StatusOfPanic && [machine startGuest] == nil) {
    loseNetwork(machine);
    return;
  }
  BOOL poweredOff = status == 0;
  state = poweredOff ? VZVirtualMachineStateStopped : VZVirtualMachineStateError;
  if (poweredOff) [delegate guestDidStopVirtualMachine:machine];
  else
    [delegate virtualMachine:machine
            didStopWithError:vzError(Internal,
                                     [NSString stringWithFormat:@"Internal Virtualization error. The virtual machine "
                                                                @"stopped unexpectedly (status %d).",
                                                                status])];
}

@implementation VZVirtualMachine
+ (BOOL)isSupported {
  return !knob("unsupported");
}
- (instancetype)initWithConfiguration:(VZVirtualMachineConfiguration *)c {
  onQueue();
  self = [super init];
  configuration = [c retain];
  vsock = (id)[(VZDoubleObject *)[VZVirtioSocketDevice alloc] init];
  return self;
}
- (VZVirtualMachineState)state {
  onQueue();
  return state;
}
- (void)setDelegate:(id)d {
  delegate = d;
}
- (id)delegate {
  return delegate;
}
- (NSArray *)socketDevices {
  onQueue();
  return [NSArray arrayWithObject:vsock];
}
- (BOOL)canStart {
  onQueue();
  return state == VZVirtualMachineStateStopped || state == VZVirtualMachineStateError;
}
/// `handler(error)` later, with the state in between and after.
- (void)go:(VZVirtualMachineState)next
       via:(VZVirtualMachineState)between
        if:(BOOL)allowed
        do:(NSError * (^)(void))action
      then:(void (^)(NSError *))handler {
  onQueue();
  if (!allowed) {
    NSError *error = vzError(InvalidTransition, @"Invalid virtual machine state transition.");
    later(^{
      handler(error);
    });
    return;
  }
  VZVirtualMachineState before = state;
  state = between;
  later(^{
    NSError *error = action();
    state = error == nil ? next : before;
    handler(error);
  });
}

- (NSError *)startGuest {
  const char *program = getenv("DROVER_VZ_DOUBLE_GUEST");
  if (program == NULL) return nil;
  const char *parent = getenv("DROVER_VZ_DOUBLE_DIR");
  NSString *directory = [NSString stringWithFormat:@"%s/%d", parent == NULL ? "/tmp" : parent, getpid()];
  vsockDir = [[directory stringByAppendingString:@"/vsock"] retain];
  mkdir(directory.UTF8String, 0700);
  mkdir(vsockDir.UTF8String, 0700);
  NSString *file = [directory stringByAppendingString:@"/machine.json"];
  NSData *json = [NSJSONSerialization dataWithJSONObject:describe(configuration, vsockDir) options:0 error:NULL];
  [json writeToFile:file atomically:YES];
  VZSerialPortConfiguration *port = configuration.serialPorts.firstObject;
  NSFileHandle *console = [port.attachment->values objectForKey:@"fileHandleForWriting"];
  NSFileHandle *typed = [port.attachment->values objectForKey:@"fileHandleForReading"];
  guest = guest_start(program, file.UTF8String, console.fileDescriptor, typed == nil ? -1 : typed.fileDescriptor);
  if (guest < 0) return vzError(Internal, [NSString stringWithFormat:@"%s: %s", program, strerror(errno)]);
  [NSThread detachNewThreadSelector:@selector(waitForGuest) toTarget:self withObject:nil];
  return nil;
}

- (void)waitForGuest {
  int status = guest_wait(guest);
  @autoreleasepool {
    later(^{
      guestEnded(self, status);
    });
  }
}

- (void)startWithCompletionHandler:(void (^)(NSError *))handler {
  if (knob("startThrows")) [NSException raise:NSInvalidArgumentException format:@"start throws"];
  [self go:VZVirtualMachineStateRunning via:VZVirtualMachineStateStarting if:self.canStart do:^NSError * {
    while (knob("startBlocks")) pause();
    if (knob("startFails"))
      return vzError(Internal, @"Internal Virtualization error. The virtual machine failed to start.");
    return [self startGuest];
  } then:^(NSError *error) {
    if (knob("startHangs")) {
      state = VZVirtualMachineStateStarting;
      return;
    }
    handler(error);
    if (error != nil) return;
    loseNetwork(self);
    if (knob("guestStops"))
      later(^{
        guestEnded(self, 0);
      });
    if (knob("guestCrashes"))
      later(^{
        guestEnded(self, 1);
      });
  }];
}
@end
