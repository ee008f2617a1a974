#import "double.h"

#undef main

/// GNUstep initializes a class when it is first used, under the lock of the Objective-C runtime: two threads that do so
/// at once can wait for each other for good. Here all is initialized before there are threads.
static void initializeClasses(void) {
  [[NSRunLoop mainRunLoop] addPort:[NSPort port] forMode:@"initialize"];
  [[NSProcessInfo processInfo] beginActivityWithOptions:NSActivityUserInitiated reason:@""];
  [[[NSCondition alloc] init] autorelease];
  [NSCharacterSet newlineCharacterSet];
  NSData *json = [[NSString stringWithFormat:@"[%d, true, {}, \"\", null]", 1] dataUsingEncoding:NSUTF8StringEncoding];
  id object = [NSJSONSerialization JSONObjectWithData:json options:0 error:NULL];
  [NSJSONSerialization dataWithJSONObject:object options:0 error:NULL];
  [[NSError errorWithDomain:NSPOSIXErrorDomain code:1 userInfo:nil] localizedDescription];
  [[NSDate date] timeIntervalSinceNow];
  [[NSObject class] performSelectorOnMainThread:@selector(class) withObject:nil waitUntilDone:NO];
}

/// In the build for Linux, the helper's own main is vz_helper_main.
int vz_helper_main(void);
int main(void) {
  takeSignals();
  @autoreleasepool {
    initializeClasses();
  }
  return vz_helper_main();
}
