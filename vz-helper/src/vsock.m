#import "vsock.h"
#import "errors.h"
#import "output.h"

#include "hybrid.h"
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum {
  MaxConnections = 512,
  MaxRefusals = 64, // that are told why; what comes beyond that is closed
  LineTimeoutMs = 5000,
  ConnectTimeoutSeconds = 5,
};
static atomic_int connections;

static void refuse(int client, NSError *error) {
  NSDictionary *fields = errorFields(error);
  NSString *line = [NSString stringWithFormat:@"ERROR %@ %@ %@\n", [fields objectForKey:@"domain"],
                                              [fields objectForKey:@"code"], [fields objectForKey:@"text"]];
  NSData *bytes = [line dataUsingEncoding:NSUTF8StringEncoding];
  // A few bytes into an empty socket: a client that is gone does not matter.
  if (write(client, bytes.bytes, bytes.length) < 0) return;
}

/// One connection, with a thread of its own that runs `run`. The main thread connects to the guest meanwhile and puts
/// what came of it under the condition.
@interface DVZVsockConnection : NSObject {
  int _client;
  BOOL _isTooMany;
  uint32_t _port;
  id<DVZVsockGuest> _guest;
  NSCondition *_condition;
  BOOL _answered;
  BOOL _abandoned;
  NSError *_error;
  VZVirtioSocketConnection *_connection;
  int _descriptor;
  uint32_t _hostPort;
}
@property(nonatomic) int client;
@property(nonatomic) BOOL isTooMany;
@property(nonatomic, strong) id<DVZVsockGuest> guest;
@property(nonatomic, strong) NSCondition *condition;
@property(nonatomic, strong) NSError *error;
/// Its descriptor is closed with it, so it is kept for as long as bytes flow.
@property(nonatomic, strong) VZVirtioSocketConnection *connection;
@end

@implementation DVZVsockConnection
@synthesize client = _client, isTooMany = _isTooMany, guest = _guest, condition = _condition, error = _error,
            connection = _connection;

// Main thread.
- (void)connect {
  [_guest connectToVsockPort:_port handler:^(VZVirtioSocketConnection *connection, NSError *error) {
    [self connected:connection error:error];
  }];
}

// Main thread.
- (void)connected:(VZVirtioSocketConnection *)connection error:(NSError *)error {
  [_condition lock];
  if (_abandoned || _answered) {
    [connection close];
  } else {
    // A descriptor of our own: should macOS close its own one early, its number may be another file's by then.
    _descriptor = connection == nil ? -1 : fcntl(connection.fileDescriptor, F_DUPFD_CLOEXEC, 0);
    if (_descriptor >= 0) {
      hybrid_widen(_descriptor);
      self.connection = connection;
      _hostPort = connection.sourcePort;
    } else {
      self.error = connection == nil ? error : systemError(nil, @"the guest's connection", errno);
    }
    _answered = YES;
    [_condition signal];
  }
  [_condition unlock];
}

// Main thread, when no bytes flow any more.
- (void)finish {
  [_connection close];
  self.connection = nil;
}

/// The guest's descriptor, or -1 and the property `error`.
- (int)waitForGuest {
  NSDate *deadline = [NSDate dateWithTimeIntervalSinceNow:ConnectTimeoutSeconds];
  [self performSelectorOnMainThread:@selector(connect) withObject:nil waitUntilDone:NO];
  [_condition lock];
  while (!_answered && [_condition waitUntilDate:deadline]) continue;
  int descriptor = _answered ? _descriptor : -1;
  if (!_answered) {
    _abandoned = YES;
    self.error = helperError(HelperErrorFailed, nil, @"the guest does not answer");
  }
  [_condition unlock];
  return descriptor;
}

- (void)relayFor:(struct hybrid_request *)request {
  _port = request->port;
  int descriptor = [self waitForGuest];
  if (descriptor < 0) {
    refuse(_client, _error);
    return;
  }
  char greeting[32];
  int length = snprintf(greeting, sizeof greeting, "OK %u\n", _hostPort);
  if (!relay(_client, descriptor, greeting, (size_t)length, request->rest, request->restLength))
    refuse(_client, systemError(nil, @"no memory", errno));
  close(descriptor);
  [self performSelectorOnMainThread:@selector(finish) withObject:nil waitUntilDone:NO];
}

- (void)run {
  @autoreleasepool {
    struct hybrid_request request;
    // Also before a refusal: a client that still writes when its socket closes would not see why.
    if (!hybrid_read(_client, LineTimeoutMs, &request))
      refuse(_client, helperError(HelperErrorBadRequest, nil, @"the first line must be CONNECT and a port"));
    else if (_isTooMany) refuse(_client, helperError(HelperErrorFailed, nil, @"too many connections"));
    else [self relayFor:&request];
    close(_client);
    atomic_fetch_sub(&connections, 1);
  }
}
@end

@interface DVZVsockListener : NSObject {
  int _listener;
  id<DVZVsockGuest> _guest;
}
@property(nonatomic) int listener;
@property(nonatomic, strong) id<DVZVsockGuest> guest;
@end

@implementation DVZVsockListener
@synthesize listener = _listener, guest = _guest;

- (void)serve:(int)client {
  int others = atomic_fetch_add(&connections, 1);
  if (others >= MaxConnections + MaxRefusals) {
    close(client);
    atomic_fetch_sub(&connections, 1);
    return;
  }
  DVZVsockConnection *connection = KEPT([[DVZVsockConnection alloc] init]);
  connection.client = client;
  connection.isTooMany = others >= MaxConnections;
  connection.guest = _guest;
  connection.condition = KEPT([[NSCondition alloc] init]);
  @try {
    [NSThread detachNewThreadSelector:@selector(run) toTarget:connection withObject:nil];
  } @catch (NSException *exception) {
    // One connection less is no reason to end a guest.
    refuse(client, helperError(HelperErrorFailed, nil, @"no thread for the connection"));
    close(client);
    atomic_fetch_sub(&connections, 1);
  }
}

- (void)run {
  for (BOOL warned = NO;;) {
    @autoreleasepool {
      int client = hybrid_accept(_listener);
      if (client >= 0) {
        [self serve:client];
        continue;
      }
      // Such as no descriptors left: connections that end give some back.
      if (!warned) sendWarning(systemError(@"config.vsock.path", @"no connection can be accepted", errno));
      warned = YES;
      poll(NULL, 0, 100);
    }
  }
}
@end

void serveVsock(int listener, id<DVZVsockGuest> guest) {
  DVZVsockListener *server = KEPT([[DVZVsockListener alloc] init]);
  server.listener = listener;
  server.guest = guest;
  [NSThread detachNewThreadSelector:@selector(run) toTarget:server withObject:nil];
}
