#import "output.h"
#import "errors.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t oneAtATime = PTHREAD_MUTEX_INITIALIZER;

static void writeAll(const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(STDOUT_FILENO, bytes, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) _exit(0); // the supervisor is gone
    bytes += written;
    length -= (size_t)written;
  }
}

void sendMessage(NSDictionary *message) {
  NSData *json = [NSJSONSerialization dataWithJSONObject:message options:0 error:NULL];
  if (json == nil)
    json = [@"{\"event\":\"warning\",\"error\":{\"domain\":\"vz-helper\",\"code\":8,"
            @"\"text\":\"a message cannot be encoded\"}}" dataUsingEncoding:NSUTF8StringEncoding];
  pthread_mutex_lock(&oneAtATime);
  writeAll(json.bytes, json.length);
  writeAll("\n", 1);
  pthread_mutex_unlock(&oneAtATime);
}

void sendEvent(NSString *name, NSDictionary *fields) {
  NSMutableDictionary *event = [NSMutableDictionary dictionary];
  if (fields != nil) [event addEntriesFromDictionary:fields];
  [event setObject:name forKey:@"event"];
  sendMessage(event);
}

@interface DVZWarning : NSObject
+ (void)send:(NSError *)error;
@end
@implementation DVZWarning
+ (void)send:(NSError *)error {
  sendEvent(@"warning", fieldsOf(@"error", errorFields(error), nil));
}
@end

void sendWarning(NSError *error) {
  [[DVZWarning class] performSelectorOnMainThread:@selector(send:) withObject:error waitUntilDone:NO];
}
