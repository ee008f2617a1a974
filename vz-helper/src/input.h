// The supervisor's requests: read by a separate thread, so that their end is noticed whatever the main thread does.
#import "requests.h"

enum {
  MaxLineBytes = 1024 * 1024,
  MaxWaitingBytes = 8 * 1024 * 1024,
};

/// Hands each line of stdin to `requests`, on the main thread. Ends the process when stdin ends.
void readRequests(DVZRequests *requests);
