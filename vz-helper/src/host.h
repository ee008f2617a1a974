// Capabilities of this Mac.
#import "portable.h"

/// The result of `hello`.
NSDictionary *hostFacts(void);
