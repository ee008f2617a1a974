// The guest's vsock as a Unix socket on the host: see "The guest's vsock" in PROTOCOL.md.
#import "portable.h"

#import <Virtualization/Virtualization.h>

/// Connects to a port of the guest. Called on the main thread, on which the handler is called too.
@protocol DVZVsockGuest <NSObject>
- (void)connectToVsockPort:(uint32_t)port handler:(void (^)(VZVirtioSocketConnection *, NSError *))handler;
@end

/// Accepts connections at `listener`, from hybrid_listen, for as long as the process lives.
void serveVsock(int listener, id<DVZVsockGuest> guest);
