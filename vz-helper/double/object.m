#import "double.h"

#include <Block.h>
#include <stdlib.h>

static NSArray *words(void) {
  const char *text = getenv("DROVER_VZ_DOUBLE");
  return [[NSString stringWithUTF8String:text == NULL ? "" : text] componentsSeparatedByString:@","];
}

BOOL knob(const char *word) { return [words() containsObject:[NSString stringWithUTF8String:word]]; }

NSString *knobValue(const char *word) {
  NSString *prefix = [NSString stringWithFormat:@"%s=", word];
  for (NSString *each in words())
    if ([each hasPrefix:prefix]) return [each substringFromIndex:prefix.length];
  return nil;
}

NSError *vzError(NSInteger code, NSString *text) {
  return [NSError errorWithDomain:@"VZErrorDomain" code:code
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

// Main thread.
void laterBy(int ms, void (^block)(void)) {
  Later *call = [[[Later alloc] init] autorelease];
  call->block = Block_copy(block);
  [call performSelector:@selector(run) withObject:nil afterDelay:ms / 1000.0];
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
@end
