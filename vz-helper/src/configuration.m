#import "configuration.h"
#import "errors.h"
#import "rosetta.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  MaxPathBytes = 1023,
  MaxSocketPathBytes = 103, // sun_path of macOS, without its NUL
  MaxCommandLineBytes = 2047,
  MaxDisks = 16,
  MaxShares = 32,
  MaxIdentifierBytes = 20,
};
static const unsigned long long Mebibyte = 1024 * 1024;

@implementation DVZGuestFiles
@synthesize consolePath = _consolePath, consoleMaxBytes = _consoleMaxBytes, terminal = _terminal,
            vsockPath = _vsockPath;
@end

/// macOS says little about files that are not there.
static NSURL *existing(DVZFields *fields, NSString *key, mode_t type, DVZProblem *problem) {
  NSString *path = [fields path:key max:MaxPathBytes];
  NSString *name = [fields nameOf:key];
  struct stat status;
  if (problem.error != nil) return [NSURL fileURLWithPath:@"/"];
  if (stat(path.fileSystemRepresentation, &status) != 0) problem.error = systemError(name, name, errno);
  else if ((status.st_mode & S_IFMT) != type)
    problem.error =
        helperError(HelperErrorFailed, name,
                    [name stringByAppendingString:type == S_IFDIR ? @": is no directory" : @": is no file"]);
  return [NSURL fileURLWithPath:path isDirectory:type == S_IFDIR];
}

static VZBootLoader *bootLoader(DVZFields *config, DVZProblem *problem) {
  NSURL *kernel = existing(config, @"kernel", S_IFREG, problem);
  VZLinuxBootLoader *loader = KEPT([[VZLinuxBootLoader alloc] initWithKernelURL:kernel]);
  loader.initialRamdiskURL = existing(config, @"initrd", S_IFREG, problem);
  loader.commandLine = [config text:@"commandLine" min:0 max:MaxCommandLineBytes];
  if ([loader.commandLine rangeOfCharacterFromSet:[NSCharacterSet characterSetWithCharactersInString:@"\n\r"]]
          .location != NSNotFound)
    [config key:@"commandLine" is:@"must be one line"];
  return loader;
}

static VZPlatformConfiguration *platform(BOOL nested, DVZProblem *problem) {
  VZGenericPlatformConfiguration *platform = KEPT([[VZGenericPlatformConfiguration alloc] init]);
  if (!nested) return platform;
  if (@available(macOS 15.0, *)) {
    if ([VZGenericPlatformConfiguration isNestedVirtualizationSupported]) {
      platform.nestedVirtualizationEnabled = YES;
      return platform;
    }
  }
  if (problem.error == nil)
    problem.error = helperError(HelperErrorUnsupported, @"config.nested",
                                @"config.nested: this Mac cannot (it takes macOS 15 and an M3 or later)");
  return platform;
}

static void requireIdentifier(DVZFields *disk, NSString *identifier) {
  NSCharacterSet *others = [[NSCharacterSet characterSetWithRange:NSMakeRange('!', '~' - '!' + 1)] invertedSet];
  if ([identifier rangeOfCharacterFromSet:others].location != NSNotFound ||
      [identifier rangeOfString:@"/"].location != NSNotFound)
    [disk key:@"identifier" is:@"must be printable ASCII without space or /"];
}

/// Cached: with Automatic, Linux guests have seen their file systems corrupted on some Macs. None: no disk of a guest
/// outlives it, so its flushes need not reach one.
static VZStorageDeviceConfiguration *blockDevice(DVZFields *disk, DVZProblem *problem) {
  NSURL *url = existing(disk, @"path", S_IFREG, problem);
  BOOL readOnly = [disk boolean:@"readOnly"];
  NSString *identifier = nil;
  if ([disk has:@"identifier"]) {
    identifier = [disk text:@"identifier" min:1 max:MaxIdentifierBytes];
    requireIdentifier(disk, identifier);
  }
  [disk end];
  if (problem.error != nil) return nil;
  NSError *error = nil;
  VZDiskImageStorageDeviceAttachment *attachment =
      KEPT([[VZDiskImageStorageDeviceAttachment alloc] initWithURL:url readOnly:readOnly
                                                       cachingMode:VZDiskImageCachingModeCached
                                               synchronizationMode:VZDiskImageSynchronizationModeNone
                                                             error:&error]);
  if (attachment == nil) {
    problem.error = errorOfKey([disk nameOf:@"path"], error);
    return nil;
  }
  VZVirtioBlockDeviceConfiguration *device =
      KEPT([[VZVirtioBlockDeviceConfiguration alloc] initWithAttachment:attachment]);
  if (identifier != nil) device.blockDeviceIdentifier = identifier;
  return device;
}

static VZDirectorySharingDeviceConfiguration *sharedDirectory(DVZFields *share, NSMutableSet *tags,
                                                              DVZProblem *problem) {
  NSString *tag = readTag(share, tags, problem);
  NSURL *url = existing(share, @"path", S_IFDIR, problem);
  BOOL readOnly = [share boolean:@"readOnly"];
  [share end];
  if (problem.error != nil) return nil;
  VZSharedDirectory *directory = KEPT([[VZSharedDirectory alloc] initWithURL:url readOnly:readOnly]);
  VZVirtioFileSystemDeviceConfiguration *device = KEPT([[VZVirtioFileSystemDeviceConfiguration alloc] initWithTag:tag]);
  device.share = KEPT([[VZSingleDirectoryShare alloc] initWithDirectory:directory]);
  return device;
}

static NSArray *directoryShares(DVZFields *config, DVZProblem *problem) {
  NSMutableArray *devices = [NSMutableArray array];
  NSMutableSet *tags = [NSMutableSet set];
  for (DVZFields *share in [config objects:@"shares" max:MaxShares]) {
    id device = sharedDirectory(share, tags, problem);
    if (device != nil) [devices addObject:device];
  }
  DVZFields *rosetta = [config objectOrNull:@"rosetta"];
  if (rosetta == nil) return devices;
  id device = rosettaShare(rosetta, tags, problem);
  if (device != nil) [devices addObject:device];
  return devices;
}

static NSArray *networkDevices(DVZFields *config, DVZProblem *problem) {
  DVZFields *network = [config objectOrNull:@"network"];
  if (network == nil) return [NSArray array];
  NSString *text = [network text:@"mac" min:0 max:MaxPathBytes];
  [network end];
  // VZMACAddress takes one without colons too, and multicast.
  BOOL wellFormed = text.length == 17;
  for (NSUInteger at = 0; wellFormed && at < 17; at++) {
    unichar c = [text characterAtIndex:at];
    BOOL hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    wellFormed = at % 3 == 2 ? c == ':' : hex;
  }
  NSCharacterSet *unicast = [NSCharacterSet characterSetWithCharactersInString:@"02468aceACE"];
  if (!wellFormed || ![unicast characterIsMember:[text characterAtIndex:1]])
    [network key:@"mac" is:@"must be a unicast MAC address such as 52:54:00:00:00:01"];
  if (problem.error != nil) return [NSArray array];
  VZMACAddress *address = KEPT([[VZMACAddress alloc] initWithString:text.lowercaseString]);
  if (address == nil) {
    [network key:@"mac" is:@"is refused by macOS"];
    return [NSArray array];
  }
  VZVirtioNetworkDeviceConfiguration *device = KEPT([[VZVirtioNetworkDeviceConfiguration alloc] init]);
  device.attachment = KEPT([[VZNATNetworkDeviceAttachment alloc] init]);
  device.MACAddress = address;
  return [NSArray arrayWithObject:device];
}

static void readFiles(DVZFields *config, DVZGuestFiles *files) {
  DVZFields *console = [config object:@"console"];
  files.consolePath = [console path:@"path" max:MaxPathBytes];
  files.consoleMaxBytes = [console integer:@"maxBytes" min:4096 max:1024 * Mebibyte step:1];
  files.terminal = [console has:@"terminal"] && [console boolean:@"terminal"];
  [console end];
  DVZFields *vsock = [config object:@"vsock"];
  files.vsockPath = [vsock path:@"path" max:MaxSocketPathBytes];
  [vsock end];
}

VZVirtualMachineConfiguration *readConfiguration(DVZFields *config, DVZGuestFiles *files, DVZProblem *problem) {
  VZVirtualMachineConfiguration *machine = KEPT([[VZVirtualMachineConfiguration alloc] init]);
  machine.bootLoader = bootLoader(config, problem);
  machine.CPUCount =
      (NSUInteger)[config integer:@"cpus" min:MAX((NSUInteger)1, [VZVirtualMachineConfiguration minimumAllowedCPUCount])
                              max:[VZVirtualMachineConfiguration maximumAllowedCPUCount]
                             step:1];
  machine.memorySize = [config integer:@"memoryBytes"
                                   min:MAX(Mebibyte, [VZVirtualMachineConfiguration minimumAllowedMemorySize])
                                   max:[VZVirtualMachineConfiguration maximumAllowedMemorySize]
                                  step:Mebibyte];
  NSMutableArray *disks = [NSMutableArray array];
  for (DVZFields *disk in [config objects:@"disks" max:MaxDisks]) {
    id device = blockDevice(disk, problem);
    if (device != nil) [disks addObject:device];
  }
  machine.storageDevices = disks;
  machine.directorySharingDevices = directoryShares(config, problem);
  machine.networkDevices = networkDevices(config, problem);
  readFiles(config, files);
  machine.platform = platform([config boolean:@"nested"], problem);
  [config end];
  machine.entropyDevices = [NSArray arrayWithObject:KEPT([[VZVirtioEntropyDeviceConfiguration alloc] init])];
  machine.memoryBalloonDevices =
      [NSArray arrayWithObject:KEPT([[VZVirtioTraditionalMemoryBalloonDeviceConfiguration alloc] init])];
  machine.socketDevices = [NSArray arrayWithObject:KEPT([[VZVirtioSocketDeviceConfiguration alloc] init])];
  return problem.error == nil ? machine : nil;
}

static NSFileHandle *handle(int descriptor) {
  return descriptor < 0 ? nil : KEPT([[NSFileHandle alloc] initWithFileDescriptor:descriptor closeOnDealloc:NO]);
}

VZSerialPortConfiguration *serialPort(int output, int input) {
  VZVirtioConsoleDeviceSerialPortConfiguration *port =
      KEPT([[VZVirtioConsoleDeviceSerialPortConfiguration alloc] init]);
  port.attachment = KEPT([[VZFileHandleSerialPortAttachment alloc] initWithFileHandleForReading:handle(input)
                                                                           fileHandleForWriting:handle(output)]);
  return port;
}
