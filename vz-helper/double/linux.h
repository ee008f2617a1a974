// Included before everything in the build for Linux: what macOS has and GNUstep has not, as far as vz-helper uses it.
#pragma once
#include <sys/types.h>

int getpeereid(int socket, uid_t *uid, gid_t *gid);
int double_shutdown(int descriptor, int how);

#ifdef __OBJC__
#import <Foundation/Foundation.h>

BOOL double_available(int major);

#define API_AVAILABLE(...)
#undef NS_UNAVAILABLE
#define NS_UNAVAILABLE
#undef NS_DESIGNATED_INITIALIZER
#define NS_DESIGNATED_INITIALIZER
#undef NS_ASSUME_NONNULL_BEGIN
#undef NS_ASSUME_NONNULL_END
#define NS_ASSUME_NONNULL_BEGIN _Pragma("clang assume_nonnull begin")
#define NS_ASSUME_NONNULL_END _Pragma("clang assume_nonnull end")
#define CFBridgingRelease(object) ((id)(object))

extern NSString *const NSURLVolumeAvailableCapacityForImportantUsageKey;

/// The root of the double's classes, which keep here what they are told.
@interface VZDoubleObject : NSObject <NSCopying> {
@public
  NSMutableDictionary *values;
}
@end
#define VZ_ROOT VZDoubleObject
#define VZ_NOINIT

typedef struct {
  NSInteger majorVersion, minorVersion, patchVersion;
} NSOperatingSystemVersion;
@interface NSProcessInfo (Double)
- (NSOperatingSystemVersion)operatingSystemVersion;
@end
#endif
