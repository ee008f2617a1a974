#import "double.h"

#import <Virtualization/Virtualization.h>

#include <string.h>
#include <unistd.h>

static NSNumber *number(unsigned long long value) { return [NSNumber numberWithUnsignedLongLong:value]; }

// The accessors of a property: GCC's runtime makes none.
#define OBJECT(type, name, setter)                                                                                     \
  -(type)name {                                                                                                        \
    return [values objectForKey:@ #name];                                                                              \
  }                                                                                                                    \
  -(void)setter : (type)value {                                                                                        \
    if (value == nil) [values removeObjectForKey:@ #name];                                                             \
    else [values setObject:value forKey:@ #name];                                                                      \
  }
#define NUMBER(type, name, setter)                                                                                     \
  -(type)name {                                                                                                        \
    return (type)[[values objectForKey:@ #name] unsignedLongLongValue];                                                \
  }                                                                                                                    \
  -(void)setter : (type)value {                                                                                        \
    [values setObject:number(value) forKey:@ #name];                                                                   \
  }

/// Keeps an argument of an initializer.
static id with(VZDoubleObject *object, NSString *key, id value) {
  if (value != nil) [object->values setObject:value forKey:key];
  return object;
}

static id refuse(VZDoubleObject *object, NSError **error, NSInteger code, NSString *text) {
  if (error != NULL) *error = vzError(code, text);
  [object release];
  return nil;
}

@implementation VZBootLoader
@end
@implementation VZPlatformConfiguration
@end
@implementation VZStorageDeviceAttachment
@end
@implementation VZStorageDeviceConfiguration
OBJECT(VZStorageDeviceAttachment *, attachment, setAttachment)
@end
@implementation VZDirectoryShare
@end
@implementation VZDirectorySharingDeviceConfiguration
@end
@implementation VZNetworkDeviceAttachment
@end
@implementation VZNetworkDeviceConfiguration
OBJECT(VZNetworkDeviceAttachment *, attachment, setAttachment)
OBJECT(VZMACAddress *, MACAddress, setMACAddress)
@end
@implementation VZSerialPortAttachment
@end
@implementation VZSerialPortConfiguration
OBJECT(VZSerialPortAttachment *, attachment, setAttachment)
@end
@implementation VZEntropyDeviceConfiguration
@end
@implementation VZMemoryBalloonDeviceConfiguration
@end
@implementation VZSocketDeviceConfiguration
@end
@implementation VZLinuxRosettaCachingOptions
@end

@implementation VZLinuxBootLoader
OBJECT(NSURL *, kernelURL, setKernelURL)
OBJECT(NSURL *, initialRamdiskURL, setInitialRamdiskURL)
OBJECT(NSString *, commandLine, setCommandLine)
- (instancetype)initWithKernelURL:(NSURL *)url {
  return with([super init], @"kernelURL", url);
}
@end

@implementation VZGenericPlatformConfiguration
NUMBER(BOOL, isNestedVirtualizationEnabled, setNestedVirtualizationEnabled)
- (instancetype)init {
  return [super init];
}
+ (BOOL)isNestedVirtualizationSupported {
  return knob("nested");
}
@end

@implementation VZDiskImageStorageDeviceAttachment
- (instancetype)initWithURL:(NSURL *)url
                   readOnly:(BOOL)readOnly
                cachingMode:(VZDiskImageCachingMode)cachingMode
        synchronizationMode:(VZDiskImageSynchronizationMode)synchronizationMode
                      error:(NSError **)error {
  self = [super init];
  if (access(url.path.UTF8String, readOnly ? R_OK : R_OK | W_OK) != 0)
    return refuse(self, error, 2, @"Invalid virtual machine configuration. The disk image cannot be opened.");
  with(self, @"URL", url);
  with(self, @"readOnly", number(readOnly));
  with(self, @"cachingMode", number((unsigned long long)cachingMode));
  return with(self, @"synchronizationMode", number((unsigned long long)synchronizationMode));
}
@end

@implementation VZVirtioBlockDeviceConfiguration
OBJECT(NSString *, blockDeviceIdentifier, setBlockDeviceIdentifier)
- (instancetype)initWithAttachment:(VZStorageDeviceAttachment *)attachment {
  return with([super init], @"attachment", attachment);
}
@end

@implementation VZSharedDirectory
OBJECT(NSURL *, URL, setURL)
NUMBER(BOOL, isReadOnly, setReadOnly)
- (instancetype)initWithURL:(NSURL *)url readOnly:(BOOL)readOnly {
  with([super init], @"URL", url);
  return with(self, @"isReadOnly", number(readOnly));
}
@end

@implementation VZSingleDirectoryShare
OBJECT(VZSharedDirectory *, directory, setDirectory)
- (instancetype)initWithDirectory:(VZSharedDirectory *)directory {
  return with([super init], @"directory", directory);
}
@end

@implementation VZVirtioFileSystemDeviceConfiguration
OBJECT(NSString *, tag, setTag)
OBJECT(VZDirectoryShare *, share, setShare)
- (instancetype)initWithTag:(NSString *)tag {
  return with([super init], @"tag", tag);
}
+ (BOOL)validateTag:(NSString *)tag error:(NSError **)error {
  if (tag.length > 0 && strlen(tag.UTF8String) < 36) return YES;
  if (error != NULL) *error = vzError(2, @"Invalid virtual machine configuration. The tag is invalid.");
  return NO;
}
@end

@implementation VZLinuxRosettaUnixSocketCachingOptions
- (instancetype)initWithPath:(NSString *)path error:(NSError **)error {
  self = [super init];
  return strlen(path.UTF8String) < 108 ? with(self, @"path", path) : refuse(self, error, 2, @"The path is too long.");
}
@end

@implementation VZLinuxRosettaDirectoryShare
OBJECT(VZLinuxRosettaCachingOptions *, options, setOptions)
- (instancetype)initWithError:(NSError **)error {
  (void)error;
  return [super init];
}
+ (VZLinuxRosettaAvailability)availability {
  NSString *value = knobValue("rosetta");
  if ([value isEqualToString:@"notSupported"]) return VZLinuxRosettaAvailabilityNotSupported;
  if ([value isEqualToString:@"notInstalled"]) return VZLinuxRosettaAvailabilityNotInstalled;
  return VZLinuxRosettaAvailabilityInstalled;
}
@end

@implementation VZMACAddress
OBJECT(NSString *, string, setString)
- (instancetype)initWithString:(NSString *)string {
  self = [super init];
  return string.length == 17 ? with(self, @"string", string) : refuse(self, NULL, 2, @"");
}
@end

@implementation VZNATNetworkDeviceAttachment
- (instancetype)init {
  return [super init];
}
@end
@implementation VZVirtioNetworkDeviceConfiguration
- (instancetype)init {
  return [super init];
}
@end

@implementation VZFileHandleSerialPortAttachment
- (instancetype)initWithFileHandleForReading:(NSFileHandle *)reading fileHandleForWriting:(NSFileHandle *)writing {
  with([super init], @"fileHandleForReading", reading);
  return with(self, @"fileHandleForWriting", writing);
}
@end
@implementation VZVirtioConsoleDeviceSerialPortConfiguration
- (instancetype)init {
  return [super init];
}
@end
@implementation VZVirtioEntropyDeviceConfiguration
- (instancetype)init {
  return [super init];
}
@end
@implementation VZVirtioTraditionalMemoryBalloonDeviceConfiguration
- (instancetype)init {
  return [super init];
}
@end
@implementation VZVirtioSocketDeviceConfiguration
- (instancetype)init {
  return [super init];
}
@end

static BOOL hasTwins(NSArray *devices, NSString *key) {
  NSMutableSet *seen = [NSMutableSet set];
  for (VZDoubleObject *device in devices) {
    id value = [device->values objectForKey:key];
    if (value != nil && [seen containsObject:value]) return YES;
    if (value != nil) [seen addObject:value];
  }
  return NO;
}

@implementation VZVirtualMachineConfiguration
OBJECT(VZBootLoader *, bootLoader, setBootLoader)
NUMBER(uint64_t, memorySize, setMemorySize)
NUMBER(NSUInteger, CPUCount, setCPUCount)
OBJECT(VZPlatformConfiguration *, platform, setPlatform)
OBJECT(NSArray *, entropyDevices, setEntropyDevices)
OBJECT(NSArray *, memoryBalloonDevices, setMemoryBalloonDevices)
OBJECT(NSArray *, networkDevices, setNetworkDevices)
OBJECT(NSArray *, serialPorts, setSerialPorts)
OBJECT(NSArray *, socketDevices, setSocketDevices)
OBJECT(NSArray *, storageDevices, setStorageDevices)
OBJECT(NSArray *, directorySharingDevices, setDirectorySharingDevices)
- (instancetype)init {
  return [super init];
}
+ (uint64_t)minimumAllowedMemorySize {
  return 4ULL << 20;
}
+ (uint64_t)maximumAllowedMemorySize {
  return 64ULL << 30;
}
+ (NSUInteger)minimumAllowedCPUCount {
  return 1;
}
+ (NSUInteger)maximumAllowedCPUCount {
  return 16;
}
- (BOOL)validateWithError:(NSError **)error {
  NSString *problem = nil;
  if (knob("unentitled")) problem = @"The process doesn’t have the “com.apple.security.virtualization” entitlement.";
  else if (knob("invalid")) problem = @"Whatever macOS says.";
  else if (self.bootLoader == nil) problem = @"A boot loader is missing.";
  else if (self.memorySize % (1 << 20) != 0 ||
           self.memorySize < [VZVirtualMachineConfiguration minimumAllowedMemorySize] ||
           self.memorySize > [VZVirtualMachineConfiguration maximumAllowedMemorySize])
    problem = @"The memory size is invalid.";
  else if (self.CPUCount < [VZVirtualMachineConfiguration minimumAllowedCPUCount] ||
           self.CPUCount > [VZVirtualMachineConfiguration maximumAllowedCPUCount])
    problem = @"The number of CPUs is invalid.";
  else if (self.socketDevices.count > 1) problem = @"There is more than one socket device.";
  else if (hasTwins(self.directorySharingDevices, @"tag")) problem = @"A directory sharing tag is not unique.";
  else if (hasTwins(self.storageDevices, @"blockDeviceIdentifier"))
    problem = @"A block device identifier is not unique.";
  if (problem == nil) return YES;
  if (error != NULL) *error = vzError(2, [@"Invalid virtual machine configuration. " stringByAppendingString:problem]);
  return NO;
}
@end

// MARK: the description

static id orNull(id value) { return value == nil ? [NSNull null] : value; }

static NSDictionary *describeDisk(VZVirtioBlockDeviceConfiguration *disk) {
  NSArray *caching = [NSArray arrayWithObjects:@"automatic", @"uncached", @"cached", nil];
  NSArray *synchronization = [NSArray arrayWithObjects:@"", @"full", @"fsync", @"none", nil];
  NSDictionary *image = disk.attachment->values;
  return [NSDictionary
      dictionaryWithObjectsAndKeys:[[image objectForKey:@"URL"] path], @"path",
                                   [NSNumber numberWithBool:[[image objectForKey:@"readOnly"] boolValue]], @"readOnly",
                                   [caching objectAtIndex:[[image objectForKey:@"cachingMode"] unsignedIntegerValue]],
                                   @"caching",
                                   [synchronization objectAtIndex:[[image objectForKey:@"synchronizationMode"]
                                                                      unsignedIntegerValue]],
                                   @"synchronization", orNull(disk.blockDeviceIdentifier), @"identifier", nil];
}

static NSDictionary *describeShare(VZVirtioFileSystemDeviceConfiguration *device) {
  VZSharedDirectory *directory = ((VZSingleDirectoryShare *)device.share).directory;
  return [NSDictionary dictionaryWithObjectsAndKeys:device.tag, @"tag", directory.URL.path, @"path",
                                                    [NSNumber numberWithBool:directory.readOnly], @"readOnly", nil];
}

static NSDictionary *describeRosetta(VZVirtioFileSystemDeviceConfiguration *device) {
  VZLinuxRosettaCachingOptions *options = ((VZLinuxRosettaDirectoryShare *)device.share).options;
  return
      [NSDictionary dictionaryWithObjectsAndKeys:device.tag, @"tag",
                                                 options == nil ? [NSNull null] : (id)options->values, @"cache", nil];
}

NSDictionary *describe(VZVirtualMachineConfiguration *configuration, NSString *vsockDir) {
  VZLinuxBootLoader *loader = (VZLinuxBootLoader *)configuration.bootLoader;
  NSMutableDictionary *description = [NSMutableDictionary dictionary];
  [description setObject:loader.kernelURL.path forKey:@"kernel"];
  [description setObject:loader.initialRamdiskURL.path forKey:@"initrd"];
  [description setObject:loader.commandLine forKey:@"commandLine"];
  [description setObject:number(configuration.CPUCount) forKey:@"cpus"];
  [description setObject:number(configuration.memorySize) forKey:@"memoryBytes"];
  NSMutableArray *disks = [NSMutableArray array];
  for (id disk in configuration.storageDevices) [disks addObject:describeDisk(disk)];
  [description setObject:disks forKey:@"disks"];
  NSMutableArray *shares = [NSMutableArray array];
  [description setObject:[NSNull null] forKey:@"rosetta"];
  for (VZVirtioFileSystemDeviceConfiguration *device in configuration.directorySharingDevices) {
    if ([device.share isKindOfClass:[VZLinuxRosettaDirectoryShare class]])
      [description setObject:describeRosetta(device) forKey:@"rosetta"];
    else [shares addObject:describeShare(device)];
  }
  [description setObject:shares forKey:@"shares"];
  VZNetworkDeviceConfiguration *network = configuration.networkDevices.firstObject;
  BOOL isNat = [network.attachment isKindOfClass:[VZNATNetworkDeviceAttachment class]];
  [description setObject:isNat ? (id)network.MACAddress->values : [NSNull null] forKey:@"nat"];
  VZGenericPlatformConfiguration *platform = (VZGenericPlatformConfiguration *)configuration.platform;
  [description setObject:[NSNumber numberWithBool:platform.nestedVirtualizationEnabled] forKey:@"nested"];
  NSArray *devices =
      [NSArray arrayWithObjects:@"serialPorts", @"entropyDevices", @"memoryBalloonDevices", @"socketDevices", nil];
  for (NSString *each in devices)
    [description setObject:number([[configuration->values objectForKey:each] count]) forKey:each];
  [description setObject:vsockDir forKey:@"vsockDir"];
  return description;
}
