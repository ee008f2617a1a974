// The part of IOKit that vz-helper uses, declared in our own words from its public documentation.
#pragma once
#include <CoreFoundation/CoreFoundation.h>
#include <stdint.h>

typedef unsigned int io_object_t; // a Mach port's name
typedef io_object_t io_connect_t;
typedef io_object_t io_service_t;
typedef int IOReturn;
typedef struct IONotificationPort *IONotificationPortRef;
typedef void (*IOServiceInterestCallback)(void *context, io_service_t service, uint32_t message, void *argument);

io_connect_t IORegisterForSystemPower(void *context, IONotificationPortRef *port, IOServiceInterestCallback callback,
                                      io_object_t *notifier);
IOReturn IOAllowPowerChange(io_connect_t port, long notification);
CFRunLoopSourceRef IONotificationPortGetRunLoopSource(IONotificationPortRef port);
