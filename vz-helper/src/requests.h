// From lines to operations and replies.
#import "guest.h"

@interface Requests : NSObject {
  Guest *_guest;
  BOOL _greeted;
}
+ (Requests *)of:(Guest *)guest;
/// On the main thread. `line` is one without its newline, or nil for one that was too long.
- (void)handle:(NSData *)line;
@end
