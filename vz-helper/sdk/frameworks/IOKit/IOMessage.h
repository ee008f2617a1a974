// The messages of IOKit that vz-helper uses.
#pragma once
#define iokit_common_msg(message) ((uint32_t)(0xE0000000u | (message)))
#define kIOMessageCanSystemSleep iokit_common_msg(0x270)
#define kIOMessageSystemWillSleep iokit_common_msg(0x280)
#define kIOMessageSystemHasPoweredOn iokit_common_msg(0x300)
