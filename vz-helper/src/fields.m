#import "fields.h"
#import "errors.h"

#include <string.h>

@implementation DVZProblem
@synthesize error = _error;
- (void)key:(NSString *)key is:(NSString *)text {
  if (_error == nil || _error.code != HelperErrorBadRequest || ![_error.domain isEqualToString:HelperErrorDomain])
    self.error = helperError(HelperErrorBadRequest, key, [NSString stringWithFormat:@"%@: %@", key, text]);
}
@end

@interface DVZFields ()
@property(nonatomic, strong) NSDictionary *values;
@property(nonatomic, strong) NSMutableSet *known;
@property(nonatomic, strong) DVZProblem *problem;
@property(nonatomic, strong) NSString *path;
@end

/// JSON's true and false are numbers to Foundation, but always the same two.
static BOOL isBoolean(id value) {
  return value == [NSNumber numberWithBool:YES] || value == [NSNumber numberWithBool:NO];
}

/// A name that the request made up, fit for a message.
static NSString *printable(NSString *name) {
  if (name.length > 100) name = [[name substringToIndex:100] stringByAppendingString:@"..."];
  NSData *bytes = [name dataUsingEncoding:NSASCIIStringEncoding allowLossyConversion:YES];
  NSString *ascii = KEPT([[NSString alloc] initWithData:bytes encoding:NSASCIIStringEncoding]);
  return
      [[ascii componentsSeparatedByCharactersInSet:[NSCharacterSet controlCharacterSet]] componentsJoinedByString:@"?"];
}

@implementation DVZFields
@synthesize values = _values, known = _known, problem = _problem, path = _path;

+ (DVZFields *)of:(id)value at:(NSString *)path problem:(DVZProblem *)problem {
  DVZFields *fields = KEPT([[DVZFields alloc] init]);
  BOOL isObject = [value isKindOfClass:[NSDictionary class]];
  if (!isObject) [problem key:path is:@"must be an object"];
  fields.values = isObject ? value : [NSDictionary dictionary];
  fields.known = [NSMutableSet set];
  fields.problem = problem;
  fields.path = path;
  return fields;
}

- (NSString *)nameOf:(NSString *)key {
  return _path.length == 0 ? key : [NSString stringWithFormat:@"%@.%@", _path, key];
}

- (void)key:(NSString *)key is:(NSString *)text {
  [_problem key:[self nameOf:key] is:text];
}

- (BOOL)has:(NSString *)key {
  [_known addObject:key];
  return [_values objectForKey:key] != nil;
}

/// nil, with a problem, unless it is there and of this class.
- (id)value:(NSString *)key class:(Class)class is:(NSString *)text {
  [_known addObject:key];
  id value = [_values objectForKey:key];
  if (value == nil) [self key:key is:@"is missing"];
  else if (![value isKindOfClass:class]) [self key:key is:text];
  else return value;
  return nil;
}

- (BOOL)boolean:(NSString *)key {
  NSNumber *value = [self value:key class:[NSNumber class] is:@"must be true or false"];
  if (value == nil) return NO;
  if (!isBoolean(value)) [self key:key is:@"must be true or false"];
  return value.boolValue;
}

- (unsigned long long)integer:(NSString *)key
                          min:(unsigned long long)min
                          max:(unsigned long long)max
                         step:(unsigned long long)step {
  NSNumber *value = [self value:key class:[NSNumber class] is:@"must be an integer"];
  if (value == nil) return min;
  // Every integer up to 2^53 is a double too, whatever the parser made of it.
  double number = value.doubleValue;
  if (isBoolean(value) || !(number >= -9007199254740992.0 && number <= 9007199254740992.0) ||
      number != (double)(long long)number) {
    [self key:key is:@"must be an integer"];
    return min;
  }
  if (number < (double)min || number > (double)max) {
    [self key:key is:[NSString stringWithFormat:@"must be %llu to %llu", min, max]];
    return min;
  }
  unsigned long long integer = (unsigned long long)number;
  if (integer % step != 0) [self key:key is:[NSString stringWithFormat:@"must be a multiple of %llu", step]];
  return integer;
}

- (NSString *)text:(NSString *)key min:(NSUInteger)min max:(NSUInteger)max {
  NSString *value = [self value:key class:[NSString class] is:@"must be a string"];
  if (value == nil) return @"";
  NSData *bytes = [value dataUsingEncoding:NSUTF8StringEncoding];
  if (bytes == nil) [self key:key is:@"must be Unicode"];
  else if (bytes.length < min || bytes.length > max)
    [self key:key
           is:[NSString stringWithFormat:@"must be %lu to %lu bytes long", (unsigned long)min, (unsigned long)max]];
  else if (bytes.length > 0 && memchr(bytes.bytes, 0, bytes.length) != NULL)
    [self key:key is:@"must not have a NUL in it"];
  else return value;
  return @"";
}

- (NSString *)path:(NSString *)key max:(NSUInteger)max {
  NSString *value = [self text:key min:1 max:max];
  if (![value hasPrefix:@"/"]) [self key:key is:@"must be an absolute path"];
  return value;
}

- (NSString *)oneOf:(NSArray *)choices key:(NSString *)key {
  NSString *wanted = [NSString stringWithFormat:@"must be one of: %@", [choices componentsJoinedByString:@", "]];
  NSString *value = [self value:key class:[NSString class] is:wanted];
  if (value == nil) return [choices objectAtIndex:0];
  if (![choices containsObject:value]) [self key:key is:wanted];
  return value;
}

- (DVZFields *)object:(NSString *)key {
  id value = [self value:key class:[NSDictionary class] is:@"must be an object"];
  if (value == nil) value = [NSDictionary dictionary];
  return [DVZFields of:value at:[self nameOf:key] problem:_problem];
}

- (DVZFields *)objectOrNull:(NSString *)key {
  if ([self has:key] && [_values objectForKey:key] == [NSNull null]) return nil;
  id value = [self value:key class:[NSDictionary class] is:@"must be an object or null"];
  return value == nil ? nil : [DVZFields of:value at:[self nameOf:key] problem:_problem];
}

- (NSArray *)objects:(NSString *)key max:(NSUInteger)max {
  NSArray *values = [self value:key class:[NSArray class] is:@"must be an array"];
  NSMutableArray *objects = [NSMutableArray array];
  if (values.count > max) {
    [self key:key is:[NSString stringWithFormat:@"must have at most %lu elements", (unsigned long)max]];
    return objects;
  }
  for (id value in values) {
    NSString *path = [NSString stringWithFormat:@"%@.%lu", [self nameOf:key], (unsigned long)objects.count];
    [objects addObject:[DVZFields of:value at:path problem:_problem]];
  }
  return objects;
}

- (void)end {
  for (NSString *key in _values)
    if (![_known containsObject:key]) [self key:printable(key) is:@"is unknown"];
}
@end
