#import "requests.h"
#import "errors.h"
#import "host.h"
#import "input.h"
#import "output.h"

enum { ProtocolVersion = 1, MaxPathBytes = 1023 };
static const unsigned long long MaxId = 9007199254740991ULL;

@interface DVZRequests ()
@property(nonatomic, strong) DVZGuest *guest;
@end

static void reply(id identifier, NSDictionary *result, NSError *error) {
  BOOL ok = error == nil;
  sendMessage(fieldsOf(@"id", identifier, @"ok", [NSNumber numberWithBool:ok], ok ? @"result" : @"error",
                       ok ? result : errorFields(error), nil));
}

static NSError *badLine(NSString *text) { return helperError(HelperErrorBadLine, nil, text); }

@implementation DVZRequests
@synthesize guest = _guest;

+ (DVZRequests *)of:(DVZGuest *)guest {
  DVZRequests *requests = KEPT([[DVZRequests alloc] init]);
  requests.guest = guest;
  return requests;
}

- (void)handle:(NSData *)line {
  if (line == nil) {
    reply([NSNull null], nil, badLine([NSString stringWithFormat:@"a line of more than %d bytes", MaxLineBytes]));
    return;
  }
  id request = nil;
  @try {
    request = [NSJSONSerialization JSONObjectWithData:line options:0 error:NULL];
  } @catch (NSException *exception) {
    request = nil; // GNUstep throws for some invalid JSON
  }
  if ([request isKindOfClass:[NSDictionary class]]) [self request:request];
  else reply([NSNull null], nil, badLine(@"not a JSON object"));
}

- (void)request:(NSDictionary *)request {
  DVZProblem *problem = KEPT([[DVZProblem alloc] init]);
  DVZFields *fields = [DVZFields of:request at:@"" problem:problem];
  unsigned long long number = [fields integer:@"id" min:1 max:MaxId step:1];
  id identifier = problem.error == nil ? (id)[NSNumber numberWithUnsignedLongLong:number] : [NSNull null];
  @try {
    [self operation:fields problem:problem identifier:identifier];
  } @catch (NSException *exception) {
    problem.error =
        helperError(HelperErrorException, nil, [NSString stringWithFormat:@"%@: %@", exception.name, exception.reason]);
  }
  if (problem.error != nil) reply(identifier, nil, problem.error);
}

/// Replies, unless it sets `problem`: then the caller does.
- (void)operation:(DVZFields *)fields problem:(DVZProblem *)problem identifier:(id)identifier {
  NSString *op = [fields oneOf:[NSArray arrayWithObjects:@"hello", @"configure", @"start", @"space", nil] key:@"op"];
  if (problem.error != nil) return;
  if ([op isEqualToString:@"hello"]) {
    if ([fields integer:@"protocol" min:1 max:MaxId step:1] != ProtocolVersion)
      [fields key:@"protocol"
               is:[NSString stringWithFormat:@"must be %d: this helper speaks no other", ProtocolVersion]];
    [fields end];
    if (problem.error != nil) return;
    _greeted = YES;
    reply(identifier, hostFacts(), nil);
    return;
  }
  if (!_greeted) {
    problem.error = helperError(HelperErrorBadState, nil, [op stringByAppendingString:@": hello comes first"]);
    return;
  }
  if ([op isEqualToString:@"space"]) {
    NSString *path = [fields path:@"path" max:MaxPathBytes];
    [fields end];
    if (problem.error != nil) return;
    NSError *error = nil;
    NSNumber *bytes = freeBytes(path, &error);
    if (bytes == nil) problem.error = errorOfKey(@"path", error);
    else reply(identifier, fieldsOf(@"freeBytes", bytes, nil), nil);
    return;
  }
  DVZFields *config = [op isEqualToString:@"configure"] ? [fields object:@"config"] : nil;
  [fields end];
  if (problem.error != nil) return;
  Completion done = ^(NSError *error) {
    reply(identifier, fieldsOf(@"state", [self->_guest state], nil), error);
  };
  if (config != nil) {
    [_guest configure:config problem:problem];
    if (problem.error == nil) done(nil);
  } else {
    [_guest start:done];
  }
}
@end
