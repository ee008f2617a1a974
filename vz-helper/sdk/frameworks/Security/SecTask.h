// The part of Security that vz-helper uses, declared in our own words from its public documentation.
#pragma once
#include <CoreFoundation/CoreFoundation.h>

typedef struct __SecTask *SecTaskRef;

CF_RETURNS_RETAINED SecTaskRef SecTaskCreateFromSelf(CFAllocatorRef allocator);
CF_RETURNS_RETAINED CFTypeRef SecTaskCopyValueForEntitlement(SecTaskRef task, CFStringRef entitlement,
                                                             CFErrorRef *error);
