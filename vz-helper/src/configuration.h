// From `configure` to what Virtualization.framework takes.
#import "fields.h"

#import <Virtualization/Virtualization.h>

/// The console, both ways, where the supervisor has asked for it.
enum { TerminalDescriptor = 3 };

/// Files and sockets that the helper itself makes for the guest.
@interface DVZGuestFiles : NSObject {
  NSString *_consolePath;
  unsigned long long _consoleMaxBytes;
  BOOL _terminal;
  NSString *_vsockPath;
}
@property(nonatomic, strong) NSString *consolePath;
@property(nonatomic) unsigned long long consoleMaxBytes;
/// Whether the console has a terminal: `TerminalDescriptor`.
@property(nonatomic) BOOL terminal;
@property(nonatomic, strong) NSString *vsockPath;
@end

/// All of `config` but the console's serial port. nil when `problem` has an error: it is then complete, nothing was
/// made.
VZVirtualMachineConfiguration *readConfiguration(DVZFields *config, DVZGuestFiles *files, DVZProblem *problem);

/// The guest's `hvc0`, which writes to `output` and reads from `input`; -1: from nothing.
VZSerialPortConfiguration *serialPort(int output, int input);
