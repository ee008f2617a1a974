// The part of Virtualization.framework that vz-helper uses, declared from its public
// documentation: for checking types on Linux without an Apple SDK, and for the double. A Mac builds with the real one.
#pragma once
#import <Foundation/Foundation.h>
#ifndef VZ_EXPORT
#define VZ_EXPORT __attribute__((visibility("default")))
#endif
#ifndef VZ_ROOT // the double has a class of its own at the root
#define VZ_ROOT NSObject
#endif
NS_ASSUME_NONNULL_BEGIN

#ifndef VZ_NOINIT
#define VZ_NOINIT + (instancetype)new NS_UNAVAILABLE; - (instancetype)init NS_UNAVAILABLE;
#endif

@class VZDirectoryShare, VZStorageDeviceAttachment, VZNetworkDeviceAttachment, VZSerialPortAttachment, VZSocketDevice,
    VZDirectorySharingDevice, VZNetworkDevice, VZMACAddress, VZVirtioSocketConnection,
    VZVirtualMachine, VZVirtioSocketDevice;

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZBootLoader : VZ_ROOT <NSCopying> VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZLinuxBootLoader : VZBootLoader
- (instancetype)initWithKernelURL:(NSURL *)kernelURL NS_DESIGNATED_INITIALIZER;
@property (copy) NSURL *kernelURL;
@property (copy) NSString *commandLine;
@property (copy, nullable) NSURL *initialRamdiskURL;
@end

VZ_EXPORT API_AVAILABLE(macos(12.0)) @interface VZPlatformConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(12.0)) @interface VZGenericPlatformConfiguration : VZPlatformConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@property (class, readonly, getter=isNestedVirtualizationSupported) BOOL nestedVirtualizationSupported API_AVAILABLE(macos(15.0));
@property (getter=isNestedVirtualizationEnabled) BOOL nestedVirtualizationEnabled API_AVAILABLE(macos(15.0));
@end

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZStorageDeviceAttachment : VZ_ROOT VZ_NOINIT @end
typedef NS_ENUM(NSInteger, VZDiskImageCachingMode) {
  VZDiskImageCachingModeAutomatic = 0, VZDiskImageCachingModeUncached = 1, VZDiskImageCachingModeCached = 2,
} API_AVAILABLE(macos(12.0));
typedef NS_ENUM(NSInteger, VZDiskImageSynchronizationMode) {
  VZDiskImageSynchronizationModeFull = 1, VZDiskImageSynchronizationModeFsync = 2, VZDiskImageSynchronizationModeNone = 3,
} API_AVAILABLE(macos(12.0));
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZDiskImageStorageDeviceAttachment : VZStorageDeviceAttachment
- (nullable instancetype)initWithURL:(NSURL *)url readOnly:(BOOL)readOnly cachingMode:(VZDiskImageCachingMode)cachingMode synchronizationMode:(VZDiskImageSynchronizationMode)synchronizationMode error:(NSError **)error NS_DESIGNATED_INITIALIZER API_AVAILABLE(macos(12.0));
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZStorageDeviceConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT
@property (readonly, strong) VZStorageDeviceAttachment *attachment;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioBlockDeviceConfiguration : VZStorageDeviceConfiguration
- (instancetype)initWithAttachment:(VZStorageDeviceAttachment *)attachment NS_DESIGNATED_INITIALIZER;
@property (copy) NSString *blockDeviceIdentifier API_AVAILABLE(macos(12.3));
@end

VZ_EXPORT API_AVAILABLE(macos(12.0)) @interface VZSharedDirectory : VZ_ROOT VZ_NOINIT
- (instancetype)initWithURL:(NSURL *)url readOnly:(BOOL)readOnly NS_DESIGNATED_INITIALIZER;
@property (readonly, copy) NSURL *URL;
@property (readonly, getter=isReadOnly) BOOL readOnly;
@end
VZ_EXPORT API_AVAILABLE(macos(12.0)) @interface VZDirectoryShare : VZ_ROOT VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(12.0)) @interface VZSingleDirectoryShare : VZDirectoryShare
- (instancetype)initWithDirectory:(VZSharedDirectory *)directory NS_DESIGNATED_INITIALIZER;
@property (readonly, strong) VZSharedDirectory *directory;
@end
VZ_EXPORT API_AVAILABLE(macos(12.0)) @interface VZDirectorySharingDeviceConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(12.0)) @interface VZVirtioFileSystemDeviceConfiguration : VZDirectorySharingDeviceConfiguration
- (instancetype)initWithTag:(NSString *)tag NS_DESIGNATED_INITIALIZER;
+ (BOOL)validateTag:(NSString *)tag error:(NSError **)error;
@property (copy) NSString *tag;
@property (nullable, strong) VZDirectoryShare *share;
@end

#ifdef __arm64__
typedef NS_ENUM(NSInteger, VZLinuxRosettaAvailability) {
  VZLinuxRosettaAvailabilityNotSupported, VZLinuxRosettaAvailabilityNotInstalled, VZLinuxRosettaAvailabilityInstalled,
} API_AVAILABLE(macos(13.0));
VZ_EXPORT API_AVAILABLE(macos(14.0)) @interface VZLinuxRosettaCachingOptions : VZ_ROOT VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(14.0)) @interface VZLinuxRosettaUnixSocketCachingOptions : VZLinuxRosettaCachingOptions
- (nullable instancetype)initWithPath:(NSString *)path error:(NSError **)error NS_DESIGNATED_INITIALIZER;
@end
VZ_EXPORT API_AVAILABLE(macos(13.0)) @interface VZLinuxRosettaDirectoryShare : VZDirectoryShare
- (nullable instancetype)initWithError:(NSError **)error NS_DESIGNATED_INITIALIZER;
@property (class, readonly) VZLinuxRosettaAvailability availability;
@property (strong, nullable) VZLinuxRosettaCachingOptions *options API_AVAILABLE(macos(14.0));
@end
#endif

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZMACAddress : VZ_ROOT <NSCopying> VZ_NOINIT
- (nullable instancetype)initWithString:(NSString *)string;
@property (readonly, copy) NSString *string;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZNetworkDeviceAttachment : VZ_ROOT VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZNATNetworkDeviceAttachment : VZNetworkDeviceAttachment
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZNetworkDeviceConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT
@property (copy) VZMACAddress *MACAddress;
@property (nullable, strong) VZNetworkDeviceAttachment *attachment;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioNetworkDeviceConfiguration : VZNetworkDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZSerialPortAttachment : VZ_ROOT VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZFileHandleSerialPortAttachment : VZSerialPortAttachment
- (instancetype)initWithFileHandleForReading:(nullable NSFileHandle *)fileHandleForReading fileHandleForWriting:(nullable NSFileHandle *)fileHandleForWriting NS_DESIGNATED_INITIALIZER;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZSerialPortConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT
@property (nullable, strong) VZSerialPortAttachment *attachment;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioConsoleDeviceSerialPortConfiguration : VZSerialPortConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZEntropyDeviceConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioEntropyDeviceConfiguration : VZEntropyDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZMemoryBalloonDeviceConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioTraditionalMemoryBalloonDeviceConfiguration : VZMemoryBalloonDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZSocketDeviceConfiguration : VZ_ROOT <NSCopying> VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioSocketDeviceConfiguration : VZSocketDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZSocketDevice : VZ_ROOT VZ_NOINIT @end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioSocketConnection : VZ_ROOT VZ_NOINIT
@property (readonly) uint32_t sourcePort;
@property (readonly) int fileDescriptor;
- (void)close;
@end
VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtioSocketDevice : VZSocketDevice
- (void)connectToPort:(uint32_t)port completionHandler:(void (^)(VZVirtioSocketConnection *_Nullable connection, NSError *_Nullable error))completionHandler;
@end

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtualMachineConfiguration : VZ_ROOT <NSCopying>
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@property (nullable, strong) VZBootLoader *bootLoader;
@property uint64_t memorySize;
@property NSUInteger CPUCount;
@property (copy) VZPlatformConfiguration *platform API_AVAILABLE(macos(12.0));
@property (copy) NSArray<VZEntropyDeviceConfiguration *> *entropyDevices;
@property (copy) NSArray<VZMemoryBalloonDeviceConfiguration *> *memoryBalloonDevices;
@property (copy) NSArray<VZNetworkDeviceConfiguration *> *networkDevices;
@property (copy) NSArray<VZSerialPortConfiguration *> *serialPorts;
@property (copy) NSArray<VZSocketDeviceConfiguration *> *socketDevices;
@property (copy) NSArray<VZStorageDeviceConfiguration *> *storageDevices;
@property (copy) NSArray<VZDirectorySharingDeviceConfiguration *> *directorySharingDevices API_AVAILABLE(macos(12.0));
@property (class, readonly) uint64_t minimumAllowedMemorySize;
@property (class, readonly) uint64_t maximumAllowedMemorySize;
@property (class, readonly) NSUInteger minimumAllowedCPUCount;
@property (class, readonly) NSUInteger maximumAllowedCPUCount;
- (BOOL)validateWithError:(NSError **)error;
@end

typedef NS_ENUM(NSInteger, VZVirtualMachineState) {
  VZVirtualMachineStateStopped, VZVirtualMachineStateRunning, VZVirtualMachineStatePaused, VZVirtualMachineStateError,
  VZVirtualMachineStateStarting, VZVirtualMachineStatePausing, VZVirtualMachineStateResuming,
  VZVirtualMachineStateStopping API_AVAILABLE(macos(12.0)), VZVirtualMachineStateSaving API_AVAILABLE(macos(14.0)),
  VZVirtualMachineStateRestoring API_AVAILABLE(macos(14.0)),
} API_AVAILABLE(macos(11.0));

API_AVAILABLE(macos(11.0)) @protocol VZVirtualMachineDelegate <NSObject>
@optional
- (void)guestDidStopVirtualMachine:(VZVirtualMachine *)virtualMachine;
- (void)virtualMachine:(VZVirtualMachine *)virtualMachine didStopWithError:(NSError *)error;
- (void)virtualMachine:(VZVirtualMachine *)virtualMachine networkDevice:(VZNetworkDevice *)networkDevice attachmentWasDisconnectedWithError:(NSError *)error API_AVAILABLE(macos(12.0));
@end

VZ_EXPORT API_AVAILABLE(macos(11.0)) @interface VZVirtualMachine : VZ_ROOT VZ_NOINIT
- (instancetype)initWithConfiguration:(VZVirtualMachineConfiguration *)configuration; // of the main queue
@property (class, readonly, getter=isSupported) BOOL supported;
@property (readonly) VZVirtualMachineState state;
#if __has_feature(objc_arc)
@property (nullable, weak) id<VZVirtualMachineDelegate> delegate;
#else
@property (nullable, assign) id<VZVirtualMachineDelegate> delegate;
#endif
@property (readonly) BOOL canStart;
@property (readonly, copy) NSArray<VZSocketDevice *> *socketDevices;
- (void)startWithCompletionHandler:(void (^)(NSError *_Nullable errorOrNil))completionHandler;
@end
NS_ASSUME_NONNULL_END
