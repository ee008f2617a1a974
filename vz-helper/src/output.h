// Messages to the supervisor.
#import "portable.h"

/// Writes one message to stdout. May wait for the supervisor to read, so threads whose work is urgent post it to the
/// main thread instead. Ends the process when stdout is closed at the other end.
void sendMessage(NSDictionary *message);

/// Sends `{"event": name}` and more keys.
void sendEvent(NSString *name, NSDictionary *fields);

/// Sends the event `warning`, from any thread.
void sendWarning(NSError *error);
