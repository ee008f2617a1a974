#import "double.h"

#import <Foundation/NSInvocation.h>
#import <Foundation/NSMethodSignature.h>

#include <Block.h>
#include <ctype.h>
#include <objc/runtime.h>
#include <stdlib.h>
#include <string.h>

static NSArray *words(void) {
  const char *text = getenv("DROVER_VZ_DOUBLE");
  return [[NSString stringWithUTF8String:text == NULL ? "" : text] componentsSeparatedByString:@","];
}

BOOL knob(const char *word) {
  return [words() containsObject:[NSString stringWithUTF8String:word]];
}

NSString *knobValue(const char *word) {
  NSString *prefix = [NSString stringWithFormat:@"%s=", word];
  for (NSString *each in words())
    if ([each hasPrefix:prefix]) return [each substringFromIndex:prefix.length];
  return nil;
}

NSError *vzError(NSInteger code, NSString *text) {
  return [NSError errorWithDomain:@"VZErrorDomain"
                             code:code
                         userInfo:[NSDictionary dictionaryWithObject:text forKey:NSLocalizedDescriptionKey]];
}

@interface Later : NSObject {
@public
  void (^block)(void);
}
@end
@implementation Later
- (void)run {
  block();
  Block_release(block);
}
@end

void later(void (^block)(void)) {
  Later *call = [[[Later alloc] init] autorelease];
  call->block = Block_copy(block);
  [call performSelectorOnMainThread:@selector(run) withObject:nil waitUntilDone:NO];
}

// Debian's blocks runtime does not retain the objects that a block captures; these take its place.
void _Block_object_assign(void *to, const void *object, const int flags);
void _Block_object_dispose(const void *object, const int flags);
enum { FieldIsObject = 3, FieldIsBlock = 7, KindOfField = 0xF };

void _Block_object_assign(void *to, const void *object, const int flags) {
  if ((flags & KindOfField) == FieldIsObject) *(id *)to = [(id)object retain];
  else if ((flags & KindOfField) == FieldIsBlock) *(void **)to = _Block_copy(object);
  else abort(); // __block variables are not used
}

void _Block_object_dispose(const void *object, const int flags) {
  if ((flags & KindOfField) == FieldIsObject) [(id)object release];
  else if ((flags & KindOfField) == FieldIsBlock) _Block_release(object);
  else abort();
}

/// `setName:` and `name` are of the property `name`, `isName` too.
static NSString *nameOfAccessor(SEL selector, BOOL *isSetter) {
  char name[128];
  strncpy(name, sel_getName(selector), sizeof name - 1);
  name[sizeof name - 1] = 0;
  size_t length = strlen(name);
  *isSetter = strncmp(name, "set", 3) == 0 && name[length - 1] == ':';
  if (!*isSetter) return [NSString stringWithUTF8String:name];
  name[length - 1] = 0;
  if (!isupper(name[4])) name[3] = (char)tolower(name[3]); // but URL stays URL
  return [NSString stringWithUTF8String:name + 3];
}

static objc_property_t propertyOf(Class class, NSString *name) {
  objc_property_t property = class_getProperty(class, name.UTF8String);
  if (property != NULL || ![name hasPrefix:@"is"]) return property;
  NSString *first = [[name substringWithRange:NSMakeRange(2, 1)] lowercaseString];
  return class_getProperty(class, [first stringByAppendingString:[name substringFromIndex:3]].UTF8String);
}

@implementation VZDoubleObject
- (id)init {
  self = [super init];
  values = [[NSMutableDictionary alloc] init];
  return self;
}

- (void)dealloc {
  [values release];
  [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
  (void)zone;
  return [self retain];
}

// Only accessors of declared properties are answered; anything else is an unknown selector, as on macOS.
- (NSMethodSignature *)methodSignatureForSelector:(SEL)selector {
  NSMethodSignature *signature = [super methodSignatureForSelector:selector];
  if (signature != nil) return signature;
  BOOL isSetter;
  objc_property_t property = propertyOf([self class], nameOfAccessor(selector, &isSetter));
  if (property == NULL) return nil;
  const char *attributes = property_getAttributes(property); // T<type>,...
  NSString *type = attributes[1] == '@' ? @"@" : [NSString stringWithFormat:@"%c", attributes[1]];
  NSString *types = [NSString stringWithFormat:isSetter ? @"v@:%@" : @"%@@:", type];
  return [NSMethodSignature signatureWithObjCTypes:types.UTF8String];
}

- (void)forwardInvocation:(NSInvocation *)call {
  BOOL isSetter;
  NSString *name = nameOfAccessor(call.selector, &isSetter);
  NSMethodSignature *signature = [call methodSignature];
  BOOL isObject = *(isSetter ? [signature getArgumentTypeAtIndex:2] : [signature methodReturnType]) == '@';
  if (!isSetter && isObject) {
    id value = [values objectForKey:name];
    [call setReturnValue:&value];
  } else if (!isSetter) {
    unsigned long long value = [[values objectForKey:name] unsignedLongLongValue];
    [call setReturnValue:&value];
  } else if (isObject) {
    id value = nil;
    [call getArgument:&value atIndex:2];
    if (value == nil) [values removeObjectForKey:name];
    else [values setObject:value forKey:name];
  } else {
    unsigned long long value = 0;
    [call getArgument:&value atIndex:2];
    [values setObject:[NSNumber numberWithUnsignedLongLong:value] forKey:name];
  }
}
@end
