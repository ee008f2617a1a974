#import "rosetta.h"
#import "errors.h"

enum {
  MaxTagBytes = 35,
  MaxGuestSocketBytes = 107, // sun_path of Linux, without its NUL
};

NSString *readTag(DVZFields *share, NSMutableSet *tags, DVZProblem *problem) {
  NSString *tag = [share text:@"tag" min:1 max:MaxTagBytes];
  if ([tags containsObject:tag]) [share key:@"tag" is:@"is another share's already"];
  [tags addObject:tag];
  NSError *error = nil;
  if (problem.error == nil && ![VZVirtioFileSystemDeviceConfiguration validateTag:tag error:&error])
    problem.error = errorOfKey([share nameOf:@"tag"], error);
  return tag;
}

NSString *rosettaAvailability(void) {
#ifdef __arm64__
  switch ([VZLinuxRosettaDirectoryShare availability]) {
  case VZLinuxRosettaAvailabilityInstalled: return @"installed";
  case VZLinuxRosettaAvailabilityNotInstalled: return @"notInstalled";
  case VZLinuxRosettaAvailabilityNotSupported: break;
  }
#endif
  return @"notSupported";
}

BOOL rosettaHasCache(void) {
#ifdef __arm64__
  if (@available(macOS 14.0, *)) return ![rosettaAvailability() isEqualToString:@"notSupported"];
#endif
  return NO;
}

/// Path in `cache`; nil for `null`.
static NSString *readCache(DVZFields *rosetta) {
  DVZFields *cache = [rosetta objectOrNull:@"cache"];
  NSString *path = cache == nil ? nil : [cache path:@"path" max:MaxGuestSocketBytes];
  [cache end];
  return path;
}

#ifdef __arm64__
static void setCache(VZLinuxRosettaDirectoryShare *share, NSString *path, DVZProblem *problem) {
  if (path == nil) return;
  if (@available(macOS 14.0, *)) {
    NSError *error = nil;
    VZLinuxRosettaCachingOptions *options = KEPT([[VZLinuxRosettaUnixSocketCachingOptions alloc] initWithPath:path
                                                                                                        error:&error]);
    if (options == nil) problem.error = errorOfKey(@"config.rosetta.cache", error);
    share.options = options;
    return;
  }
  problem.error = helperError(HelperErrorUnsupported, @"config.rosetta.cache",
                              @"config.rosetta.cache: must be null: it takes macOS 14");
}
#endif

VZDirectorySharingDeviceConfiguration *rosettaShare(DVZFields *rosetta, NSMutableSet *tags, DVZProblem *problem) {
  NSString *tag = readTag(rosetta, tags, problem);
  NSString *path = readCache(rosetta);
  [rosetta end];
  if (problem.error != nil) return nil;
  NSString *available = rosettaAvailability();
  if ([available isEqualToString:@"notInstalled"])
    problem.error = helperError(HelperErrorRosettaMissing, @"config.rosetta",
                                @"config.rosetta: Rosetta is not installed: run softwareupdate --install-rosetta");
  if ([available isEqualToString:@"notSupported"])
    problem.error = helperError(HelperErrorUnsupported, @"config.rosetta",
                                @"config.rosetta: this Mac has no Rosetta for Linux (it takes Apple silicon)");
#ifdef __arm64__
  if (problem.error != nil) return nil;
  NSError *error = nil;
  VZLinuxRosettaDirectoryShare *share = KEPT([[VZLinuxRosettaDirectoryShare alloc] initWithError:&error]);
  if (share == nil) {
    problem.error = errorOfKey(@"config.rosetta", error);
    return nil;
  }
  setCache(share, path, problem);
  VZVirtioFileSystemDeviceConfiguration *device = KEPT([[VZVirtioFileSystemDeviceConfiguration alloc] initWithTag:tag]);
  device.share = share;
  return device;
#else
  (void)tag;
  (void)path;
  return nil;
#endif
}
