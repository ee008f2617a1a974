#import "errors.h"

#include <stdarg.h>
#include <string.h>

NSString *const HelperErrorDomain = @"vz-helper";
static NSString *const KeyOfError = @"key";

NSDictionary *fieldsOf(id key, ...) {
  NSMutableDictionary *fields = [NSMutableDictionary dictionary];
  va_list arguments;
  va_start(arguments, key);
  while (key != nil) {
    id value = va_arg(arguments, id);
    if (value == nil) break;
    [fields setObject:value forKey:key];
    key = va_arg(arguments, id);
  }
  va_end(arguments);
  return fields;
}

NSError *helperError(HelperErrorCode code, NSString *key, NSString *text) {
  return [NSError errorWithDomain:HelperErrorDomain code:code
                         userInfo:fieldsOf(NSLocalizedDescriptionKey, text, KeyOfError, key, nil)];
}

NSError *systemError(NSString *key, NSString *text, int errnum) {
  return helperError(HelperErrorFailed, key, [NSString stringWithFormat:@"%@: %s", text, strerror(errnum)]);
}

static NSString *oneLine(NSString *text) {
  return
      [[text componentsSeparatedByCharactersInSet:[NSCharacterSet newlineCharacterSet]] componentsJoinedByString:@" "];
}

/// macOS spreads what it knows over a description, a reason, and the errors beneath.
static NSString *textOf(NSError *error, int depth) {
  NSMutableArray *parts = [NSMutableArray array];
  NSString *description = error.localizedDescription;
  if (description != nil) [parts addObject:description];
  NSString *reason = error.localizedFailureReason;
  if (reason != nil && (description == nil || [description rangeOfString:reason].location == NSNotFound))
    [parts addObject:reason];
  id cause = [error.userInfo objectForKey:NSUnderlyingErrorKey];
  if (depth < 4 && [cause isKindOfClass:[NSError class]])
    [parts addObject:[NSString stringWithFormat:@"(%@ %ld: %@)", [cause domain], (long)[(NSError *)cause code],
                                                textOf(cause, depth + 1)]];
  return [parts componentsJoinedByString:@" "];
}

NSError *errorOfKey(NSString *key, NSError *error) {
  if (error == nil) return helperError(HelperErrorFailed, key, [key stringByAppendingString:@": macOS refuses it"]);
  return [NSError
      errorWithDomain:error.domain
                 code:error.code
             userInfo:fieldsOf(NSLocalizedDescriptionKey, [NSString stringWithFormat:@"%@: %@", key, textOf(error, 0)],
                               KeyOfError, key, nil)];
}

NSDictionary *errorFields(NSError *error) {
  if (error == nil) error = helperError(HelperErrorFailed, nil, @"macOS gives no reason");
  return fieldsOf(@"domain", error.domain, @"code", [NSNumber numberWithInteger:error.code], @"text",
                  oneLine(textOf(error, 0)), @"key", [error.userInfo objectForKey:KeyOfError], nil);
}
