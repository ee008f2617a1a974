// The part of Foundation that vz-helper uses, declared in our own words from its public documentation: for checking
// types on Linux, where no Apple SDK is. A Mac builds with the real one.
#pragma once
#include <Availability.h>
#include <CoreFoundation/CoreFoundation.h>
#include <objc/NSObjCRuntime.h>
#include <objc/NSObject.h>
#include <os/availability.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_ASSUME_NONNULL_BEGIN _Pragma("clang assume_nonnull begin")
#define NS_ASSUME_NONNULL_END _Pragma("clang assume_nonnull end")
#define NS_UNAVAILABLE __attribute__((unavailable))
#define NS_DESIGNATED_INITIALIZER __attribute__((objc_designated_initializer))
#define NS_ENUM(type, name) enum name : type name; enum name : type
#define NS_REQUIRES_NIL_TERMINATION __attribute__((sentinel))
#define NS_FORMAT_FUNCTION(format_, first) __attribute__((format(__NSString__, format_, first)))
#define NS_EXPORT extern
#ifndef NS_RETURNS_INNER_POINTER
#define NS_RETURNS_INNER_POINTER __attribute__((objc_returns_inner_pointer))
#endif
#define MAX(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ < b_ ? b_ : a_; })

NS_ASSUME_NONNULL_BEGIN

@class NSArray<T>, NSData, NSDate, NSDictionary<K, V>, NSError, NSString, NSURL;

typedef unsigned short unichar;
typedef double NSTimeInterval;
typedef struct _NSZone NSZone;
typedef struct _NSRange {
  NSUInteger location, length;
} NSRange;
static inline NSRange NSMakeRange(NSUInteger location, NSUInteger length) {
  NSRange range = {location, length};
  return range;
}
static const NSInteger NSNotFound = INTPTR_MAX;

static inline id _Nullable CFBridgingRelease(CFTypeRef CF_CONSUMED _Nullable object) {
  return (__bridge_transfer id)object;
}

@protocol NSCopying
- (id)copyWithZone:(nullable NSZone *)zone;
@end

@protocol NSFastEnumeration
- (NSUInteger)countByEnumeratingWithState:(void *)state
                                  objects:(id __unsafe_unretained _Nullable[_Nonnull])buffer
                                    count:(NSUInteger)count;
@end

@interface NSObject (Threads)
- (void)performSelectorOnMainThread:(SEL)selector withObject:(nullable id)argument waitUntilDone:(BOOL)wait;
@end

@interface NSNull : NSObject
+ (NSNull *)null;
@end

@interface NSCharacterSet : NSObject
@property(class, readonly, copy) NSCharacterSet *newlineCharacterSet;
@property(class, readonly, copy) NSCharacterSet *controlCharacterSet;
@property(readonly, copy) NSCharacterSet *invertedSet;
+ (NSCharacterSet *)characterSetWithCharactersInString:(NSString *)string;
+ (NSCharacterSet *)characterSetWithRange:(NSRange)range;
- (BOOL)characterIsMember:(unichar)character;
@end

typedef NSUInteger NSStringEncoding;
enum : NSStringEncoding { NSASCIIStringEncoding = 1, NSUTF8StringEncoding = 4 };

@interface NSString : NSObject <NSCopying>
@property(readonly) NSUInteger length;
@property(readonly, copy) NSString *lowercaseString;
@property(readonly) const char *fileSystemRepresentation NS_RETURNS_INNER_POINTER;
- (nullable instancetype)initWithData:(NSData *)data encoding:(NSStringEncoding)encoding;
+ (instancetype)stringWithFormat:(NSString *)format, ... NS_FORMAT_FUNCTION(1, 2);
- (BOOL)isEqualToString:(NSString *)string;
- (BOOL)hasPrefix:(NSString *)prefix;
- (unichar)characterAtIndex:(NSUInteger)index;
- (NSString *)substringToIndex:(NSUInteger)index;
- (NSString *)stringByAppendingString:(NSString *)string;
- (NSRange)rangeOfString:(NSString *)string;
- (NSRange)rangeOfCharacterFromSet:(NSCharacterSet *)set;
- (NSArray<NSString *> *)componentsSeparatedByCharactersInSet:(NSCharacterSet *)set;
- (nullable NSData *)dataUsingEncoding:(NSStringEncoding)encoding;
- (nullable NSData *)dataUsingEncoding:(NSStringEncoding)encoding allowLossyConversion:(BOOL)lossy;
@end
@interface NSConstantString : NSString
@end

@interface NSNumber : NSObject <NSCopying>
+ (NSNumber *)numberWithBool:(BOOL)value;
+ (NSNumber *)numberWithInt:(int)value;
+ (NSNumber *)numberWithInteger:(NSInteger)value;
+ (NSNumber *)numberWithLongLong:(long long)value;
+ (NSNumber *)numberWithUnsignedLongLong:(unsigned long long)value;
@property(readonly) BOOL boolValue;
@property(readonly) double doubleValue;
@end

@interface NSArray<__covariant T> : NSObject <NSCopying, NSFastEnumeration>
@property(readonly) NSUInteger count;
@property(nullable, nonatomic, readonly) T firstObject;
+ (instancetype)array;
+ (instancetype)arrayWithObject:(T)object;
+ (instancetype)arrayWithObjects:(T)first, ... NS_REQUIRES_NIL_TERMINATION;
- (T)objectAtIndex:(NSUInteger)index;
- (BOOL)containsObject:(T)object;
- (NSString *)componentsJoinedByString:(NSString *)separator;
@end
@interface NSMutableArray<T> : NSArray <T>
- (void)addObject:(T)object;
@end

@interface NSMutableSet<T> : NSObject
+ (instancetype)set;
- (void)addObject:(T)object;
- (BOOL)containsObject:(T)object;
@end

@interface NSDictionary<__covariant K, __covariant V> : NSObject <NSCopying, NSFastEnumeration>
+ (instancetype)dictionary;
- (nullable V)objectForKey:(K)key;
@end
@interface NSMutableDictionary<K, V> : NSDictionary <K, V>
- (void)setObject:(V)object forKey:(K<NSCopying>)key;
- (void)addEntriesFromDictionary:(NSDictionary<K, V> *)other;
@end

@interface NSData : NSObject <NSCopying>
@property(readonly) NSUInteger length;
@property(readonly) const void *bytes NS_RETURNS_INNER_POINTER;
+ (instancetype)data;
+ (instancetype)dataWithData:(NSData *)data;
@end
@interface NSMutableData : NSData
@property NSUInteger length;
- (void)appendBytes:(const void *)bytes length:(NSUInteger)length;
@end

@interface NSURL : NSObject <NSCopying>
+ (NSURL *)fileURLWithPath:(NSString *)path;
+ (NSURL *)fileURLWithPath:(NSString *)path isDirectory:(BOOL)isDirectory;
- (BOOL)getResourceValue:(out id _Nullable *_Nonnull)value forKey:(NSString *)key error:(NSError **)error;
@end
NS_EXPORT NSString *const NSURLVolumeAvailableCapacityForImportantUsageKey;

typedef NSString *NSErrorUserInfoKey;
NS_EXPORT NSErrorUserInfoKey const NSLocalizedDescriptionKey;
NS_EXPORT NSErrorUserInfoKey const NSUnderlyingErrorKey;
@interface NSError : NSObject
@property(readonly, copy) NSString *domain;
@property(readonly) NSInteger code;
@property(readonly, copy) NSDictionary<NSErrorUserInfoKey, id> *userInfo;
@property(readonly, copy) NSString *localizedDescription;
@property(nullable, readonly, copy) NSString *localizedFailureReason;
+ (instancetype)errorWithDomain:(NSString *)domain
                           code:(NSInteger)code
                       userInfo:(nullable NSDictionary<NSErrorUserInfoKey, id> *)userInfo;
@end

@interface NSException : NSObject
@property(readonly, copy) NSString *name;
@property(nullable, readonly, copy) NSString *reason;
@end

@interface NSDate : NSObject
@property(class, readonly, copy) NSDate *distantFuture;
@property(readonly) NSTimeInterval timeIntervalSince1970;
+ (instancetype)date;
+ (instancetype)dateWithTimeIntervalSinceNow:(NSTimeInterval)seconds;
@end

@interface NSFileHandle : NSObject
- (instancetype)initWithFileDescriptor:(int)descriptor closeOnDealloc:(BOOL)close;
@end

@interface NSPort : NSObject
+ (NSPort *)port;
@end

typedef NSString *NSRunLoopMode;
NS_EXPORT NSRunLoopMode const NSDefaultRunLoopMode;
@interface NSRunLoop : NSObject
@property(class, readonly, strong) NSRunLoop *mainRunLoop;
- (void)addPort:(NSPort *)port forMode:(NSRunLoopMode)mode;
- (BOOL)runMode:(NSRunLoopMode)mode beforeDate:(NSDate *)date;
@end

@interface NSThread : NSObject
+ (void)detachNewThreadSelector:(SEL)selector toTarget:(id)target withObject:(nullable id)argument;
@end

@interface NSCondition : NSObject
- (void)lock;
- (void)unlock;
- (BOOL)waitUntilDate:(NSDate *)date;
- (void)signal;
@end

typedef struct {
  NSInteger majorVersion, minorVersion, patchVersion;
} NSOperatingSystemVersion;
typedef NS_ENUM(uint64_t, NSActivityOptions) {
  NSActivityUserInitiatedAllowingIdleSystemSleep = 0x00FFFFFFULL & ~(1ULL << 20),
};
@interface NSProcessInfo : NSObject
@property(class, readonly, strong) NSProcessInfo *processInfo;
@property(readonly) NSOperatingSystemVersion operatingSystemVersion;
- (id)beginActivityWithOptions:(NSActivityOptions)options reason:(NSString *)reason;
@end

@interface NSJSONSerialization : NSObject
+ (nullable NSData *)dataWithJSONObject:(id)object
                                options:(NSUInteger)options
                                  error:(NSError *_Nullable *_Nullable)error;
+ (nullable id)JSONObjectWithData:(NSData *)data
                          options:(NSUInteger)options
                            error:(NSError *_Nullable *_Nullable)error;
@end

NS_ASSUME_NONNULL_END
