// Capabilities of this Mac.
#import "portable.h"

/// The result of `hello`.
NSDictionary *hostFacts(void);

/// Bytes that macOS would let a program use on the volume of `path`, what it would purge for it included; nil and
/// `error` otherwise.
NSNumber *freeBytes(NSString *path, NSError **error);
