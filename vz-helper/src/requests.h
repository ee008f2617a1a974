// From lines to operations and replies.
#import "guest.h"

@interface DVZRequests : NSObject {
  DVZGuest *_guest;
  BOOL _greeted;
}
+ (DVZRequests *)of:(DVZGuest *)guest;
/// On the main thread. `line` is one without its newline, or nil for one that was too long.
- (void)handle:(NSData *)line;
@end
