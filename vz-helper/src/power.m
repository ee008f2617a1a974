#import "power.h"
#import "errors.h"
#import "output.h"

#import <IOKit/IOMessage.h>
#import <IOKit/pwr_mgt/IOPMLib.h>

#include <errno.h>

@interface DVZPower : NSObject {
  id _activity;
}
/// macOS throttles again when this goes.
@property(nonatomic, strong) id activity;
@end

static DVZPower *power;
static io_connect_t rootPort;

@implementation DVZPower
@synthesize activity = _activity;

// Main thread.
+ (void)tell:(NSDictionary *)event {
  sendEvent([event objectForKey:@"event"], event);
}

static void tell(NSString *event) {
  NSTimeInterval now = [[NSDate date] timeIntervalSince1970];
  NSDictionary *fields =
      fieldsOf(@"event", event, @"wallMs", [NSNumber numberWithLongLong:(long long)(now * 1000)], nil);
  [[DVZPower class] performSelectorOnMainThread:@selector(tell:) withObject:fields waitUntilDone:NO];
}

/// The Mac waits up to 30 seconds for an answer, so this one comes at once and from a thread that does nothing else.
static void powerChanges(void *context, io_service_t service, uint32_t message, void *argument) {
  (void)context;
  (void)service;
  @autoreleasepool {
    if (message == kIOMessageCanSystemSleep || message == kIOMessageSystemWillSleep) {
      if (message == kIOMessageSystemWillSleep) tell(@"sleep");
      IOAllowPowerChange(rootPort, (long)argument);
    } else if (message == kIOMessageSystemHasPoweredOn) {
      tell(@"wake");
    }
  }
}

- (void)listen {
  @autoreleasepool {
    IONotificationPortRef port = NULL;
    io_object_t notifier = 0;
    rootPort = IORegisterForSystemPower(NULL, &port, powerChanges, &notifier);
    if (rootPort == 0) {
      sendWarning(helperError(HelperErrorFailed, nil, @"macOS does not tell when this Mac sleeps and wakes"));
      return;
    }
    CFRunLoopAddSource(CFRunLoopGetCurrent(), IONotificationPortGetRunLoopSource(port), kCFRunLoopDefaultMode);
  }
  CFRunLoopRun();
}
@end

void preparePower(void) {
  power = [[DVZPower alloc] init];
  power.activity = [[NSProcessInfo processInfo] beginActivityWithOptions:NSActivityUserInitiatedAllowingIdleSystemSleep
                                                                  reason:@"A virtual machine runs"];
  [NSThread detachNewThreadSelector:@selector(listen) toTarget:power withObject:nil];
}
