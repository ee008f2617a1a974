// From `configure` to what Virtualization.framework takes.
#import "fields.h"

#import <Virtualization/Virtualization.h>

/// What the helper itself makes for the guest.
@interface DVZGuestFiles : NSObject {
  NSString *_consolePath;
  unsigned long long _consoleMaxBytes;
  NSString *_vsockPath;
}
@property(nonatomic, strong) NSString *consolePath;
@property(nonatomic) unsigned long long consoleMaxBytes;
@property(nonatomic, strong) NSString *vsockPath;
@end

/// All of `config` but the console's serial port. nil when `problem` has an error: it is then complete, nothing was
/// made.
VZVirtualMachineConfiguration *readConfiguration(DVZFields *config, DVZGuestFiles *files, DVZProblem *problem);

/// The guest's `hvc0`, which writes to `descriptor`.
VZSerialPortConfiguration *serialPort(int descriptor);
