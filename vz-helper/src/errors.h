// Failures as the supervisor sees them: domain, code, text, and the key that is wrong. See PROTOCOL.md.
#import "portable.h"

extern NSString *const HelperErrorDomain;

typedef NS_ENUM(NSInteger, HelperErrorCode) {
  HelperErrorBadLine = 1,
  HelperErrorBadRequest = 2,
  HelperErrorBadState = 3,
  HelperErrorUnsupported = 4,
  HelperErrorRosettaMissing = 5,
  HelperErrorFailed = 7,
  HelperErrorException = 8,
};

/// `key` may be nil.
NSError *helperError(HelperErrorCode code, NSString *key, NSString *text);

/// `failed`, with the text of `errnum` after `text`.
NSError *systemError(NSString *key, NSString *text, int errnum);

/// Error for a key whose value macOS refused, with macOS' own domain and code. `error` may be nil.
NSError *errorOfKey(NSString *key, NSError *error);

/// The value of `error` in messages.
NSDictionary *errorFields(NSError *error);

/// Alternating keys and values, up to nil; pairs whose value is nil end it too, so put those last.
NSDictionary *fieldsOf(id key, ...) NS_REQUIRES_NIL_TERMINATION;
