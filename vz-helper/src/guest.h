// The one virtual machine of this process. All of it on the main thread, which is the machine's queue.
#import "fields.h"
#import "vsock.h"

#import <Virtualization/Virtualization.h>

/// Called once: an error, or nil when it is done.
typedef void (^Completion)(NSError *error);

@interface DVZGuest : NSObject <VZVirtualMachineDelegate, DVZVsockGuest> {
  VZVirtualMachine *_machine;
  struct console *_console;
}
/// The machine's state, as in PROTOCOL.md.
- (NSString *)state;
/// Makes the machine and its files. `config` is read to its end.
- (void)configure:(DVZFields *)config problem:(DVZProblem *)problem;
- (void)start:(Completion)done;
@end
