// Capabilities of this Mac.
#import "portable.h"

/// Whether this program is signed with what Virtualization.framework asks for.
BOOL isEntitled(void);
/// The result of `hello`.
NSDictionary *hostFacts(void);
