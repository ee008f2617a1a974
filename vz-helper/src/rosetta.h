// Rosetta for Linux, which only Apple silicon has.
#import "fields.h"

#import <Virtualization/Virtualization.h>

/// `installed`, `notInstalled`, `notSupported`
NSString *rosettaAvailability(void);
/// Whether translations can be kept.
BOOL rosettaHasCache(void);
/// nil when `problem` has an error.
VZDirectorySharingDeviceConfiguration *rosettaShare(DVZFields *rosetta, NSMutableSet *tags, DVZProblem *problem);

/// The tag of a share, which is added to `tags`.
NSString *readTag(DVZFields *share, NSMutableSet *tags, DVZProblem *problem);
