// What the supervisor sends: read by a thread of its own, so that the end of it is noticed whatever the main thread
// does.
#import "requests.h"

enum {
  MaxLineBytes = 1024 * 1024,
  MaxWaitingBytes = 8 * 1024 * 1024,
};

/// Hands each line of stdin to `requests`, on the main thread. Ends the process when stdin ends.
void readRequests(DVZRequests *requests);
