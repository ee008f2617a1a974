#import "guest.h"
#import "configuration.h"
#import "errors.h"
#import "output.h"

#include "console.h"
#include "hybrid.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

@interface DVZGuest ()
@property(nonatomic, strong) VZVirtualMachine *machine;
@end

static void consoleFailed(int errnum) {
  @autoreleasepool {
    sendWarning(systemError(@"config.console.path", @"the console log is not written any more", errnum));
  }
}

@implementation DVZGuest
@synthesize machine = _machine;

- (NSString *)state {
  if (_machine == nil) return @"stopped";
  switch (_machine.state) {
  case VZVirtualMachineStateStopped: return @"stopped";
  case VZVirtualMachineStateRunning: return @"running";
  case VZVirtualMachineStateError: return @"error";
  case VZVirtualMachineStateStarting: return @"starting";
  case VZVirtualMachineStateStopping: return @"stopping";
  default: return @"other"; // pausing, saving and restoring, which are never asked for, and what macOS may add
  }
}

- (NSError *)badState:(NSString *)text {
  return helperError(HelperErrorBadState, nil, text);
}

// MARK: configure

- (NSError *)cannotConfigure {
  if (_machine != nil) return [self badState:@"there is a guest already: one helper is one guest"];
  if (![VZVirtualMachine isSupported])
    return helperError(HelperErrorUnsupported, nil, @"this Mac cannot run virtual machines");
  return nil;
}

- (void)configure:(DVZFields *)config problem:(DVZProblem *)problem {
  if (problem.error == nil) problem.error = [self cannotConfigure];
  if (problem.error != nil) return;
  DVZGuestFiles *files = KEPT([[DVZGuestFiles alloc] init]);
  VZVirtualMachineConfiguration *configuration = readConfiguration(config, files, problem);
  if (configuration == nil) return;
  // Before anything is made. The serial port, which takes a file, is looked at later.
  NSError *error = nil;
  if (![configuration validateWithError:&error]) {
    problem.error = errorOfKey(@"config", error);
    return;
  }
  int terminal = files.terminal ? TerminalDescriptor : -1;
  if (files.terminal && fcntl(terminal, F_SETFD, FD_CLOEXEC) != 0) {
    problem.error = systemError(@"config.console.terminal", @"config.console.terminal", errno);
    return;
  }
  int output = -1;
  struct console *console =
      console_open(files.consolePath.fileSystemRepresentation, (size_t)files.consoleMaxBytes, terminal, &output);
  if (console == NULL) {
    problem.error = systemError(@"config.console.path", @"config.console.path", errno);
    return;
  }
  configuration.serialPorts = [NSArray arrayWithObject:serialPort(output, terminal)];
  problem.error = [self begin:configuration console:console vsockPath:files.vsockPath];
  if (problem.error != nil) console_close(console);
}

/// Only the last step leaves something behind, and it cannot fail.
- (NSError *)begin:(VZVirtualMachineConfiguration *)configuration
           console:(struct console *)console
         vsockPath:(NSString *)vsockPath {
  NSError *error = nil;
  if (![configuration validateWithError:&error]) return errorOfKey(@"config", error);
  const char *path = vsockPath.fileSystemRepresentation;
  int listener = hybrid_listen(path);
  if (listener < 0) return systemError(@"config.vsock.path", @"config.vsock.path", errno);
  if (!console_start(console, consoleFailed)) {
    error = systemError(@"config.console.path", @"no thread for the console", errno);
    close(listener);
    unlink(path);
    return error;
  }
  self.machine = KEPT([[VZVirtualMachine alloc] initWithConfiguration:configuration]); // of the main queue
  _machine.delegate = self;
  _console = console;
  serveVsock(listener, self);
  return nil;
}

// MARK: start

- (void)start:(Completion)done {
  if (_machine == nil || !_machine.canStart) {
    NSString *why = _machine == nil ? @"configure comes first" : [@"the guest is " stringByAppendingString:self.state];
    done([self badState:[@"start: " stringByAppendingString:why]]);
    return;
  }
  [_machine startWithCompletionHandler:^(NSError *failure) {
    if (failure == nil) sendEvent(@"started", nil);
    done(failure);
  }];
}

// MARK: the end

/// The last message; the process goes with its guest.
- (void)endedWith:(NSDictionary *)event status:(int)status {
  console_drain(_console);
  sendMessage(event);
  _exit(status);
}

- (void)guestDidStopVirtualMachine:(VZVirtualMachine *)machine {
  (void)machine;
  [self endedWith:fieldsOf(@"event", @"stopped", nil) status:0];
}

- (void)virtualMachine:(VZVirtualMachine *)machine didStopWithError:(NSError *)error {
  (void)machine;
  [self endedWith:fieldsOf(@"event", @"crashed", @"error", errorFields(error), nil) status:1];
}

- (void)virtualMachine:(VZVirtualMachine *)machine
                         networkDevice:(VZNetworkDevice *)device
    attachmentWasDisconnectedWithError:(NSError *)error {
  (void)machine;
  (void)device;
  sendEvent(@"networkLost", fieldsOf(@"error", errorFields(error), nil));
}

// MARK: vsock

- (void)connectToVsockPort:(uint32_t)port handler:(void (^)(VZVirtioSocketConnection *, NSError *))handler {
  id device = _machine.socketDevices.firstObject;
  if (_machine.state != VZVirtualMachineStateRunning) {
    handler(nil, [self badState:[NSString stringWithFormat:@"the guest is %@", self.state]]);
  } else if (![device isKindOfClass:[VZVirtioSocketDevice class]]) {
    handler(nil, helperError(HelperErrorFailed, nil, @"the guest has no vsock"));
  } else {
    @try {
      [(VZVirtioSocketDevice *)device connectToPort:port completionHandler:handler];
    } @catch (NSException *exception) {
      handler(nil, helperError(HelperErrorException, nil, exception.reason));
    }
  }
}
@end
