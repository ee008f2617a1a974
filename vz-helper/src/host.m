#import "host.h"
#import "errors.h"
#import "rosetta.h"

#import <Security/SecTask.h>

static NSString *const Version = @"0.1.0";

static BOOL isEntitled(void) {
  SecTaskRef task = SecTaskCreateFromSelf(NULL);
  if (task == NULL) return NO;
  id value = CFBridgingRelease(
      SecTaskCopyValueForEntitlement(task, (__bridge CFStringRef) @"com.apple.security.virtualization", NULL));
  CFRelease(task);
  return [value isKindOfClass:[NSNumber class]] && [value boolValue];
}

static NSString *architecture(void) {
#ifdef __arm64__
  return @"arm64";
#else
  return @"x86_64";
#endif
}

static BOOL hasNested(void) {
  if (@available(macOS 15.0, *)) return [VZGenericPlatformConfiguration isNestedVirtualizationSupported];
  return NO;
}

static NSNumber *boolean(BOOL value) { return [NSNumber numberWithBool:value]; }

static NSDictionary *limits(unsigned long long min, unsigned long long max) {
  return fieldsOf(@"min", [NSNumber numberWithUnsignedLongLong:min], @"max", [NSNumber numberWithUnsignedLongLong:max],
                  nil);
}

NSDictionary *hostFacts(void) {
  NSOperatingSystemVersion macos = [[NSProcessInfo processInfo] operatingSystemVersion];
  return fieldsOf(@"protocol", [NSNumber numberWithInt:1], @"helper", Version, @"macos",
                  [NSString stringWithFormat:@"%ld.%ld.%ld", (long)macos.majorVersion, (long)macos.minorVersion,
                                             (long)macos.patchVersion],
                  @"architecture", architecture(), @"supported", boolean([VZVirtualMachine isSupported]), @"entitled",
                  boolean(isEntitled()), @"rosetta", rosettaAvailability(), @"rosettaCache", boolean(rosettaHasCache()),
                  @"nested", boolean(hasNested()), @"cpus",
                  limits([VZVirtualMachineConfiguration minimumAllowedCPUCount],
                         [VZVirtualMachineConfiguration maximumAllowedCPUCount]),
                  @"memoryBytes",
                  limits([VZVirtualMachineConfiguration minimumAllowedMemorySize],
                         [VZVirtualMachineConfiguration maximumAllowedMemorySize]),
                  nil);
}

NSNumber *freeBytes(NSString *path, NSError **error) {
  id value = nil;
  NSURL *url = [NSURL fileURLWithPath:path isDirectory:YES];
  if (![url getResourceValue:&value forKey:NSURLVolumeAvailableCapacityForImportantUsageKey error:error]) return nil;
  return value;
}
