// Shared declarations of the double, which stands in for Virtualization.framework, IOKit and Security on Linux, so that
// the helper's own code can run. The environment configures it:
//
//   DROVER_VZ_DOUBLE_GUEST   a program that is the guest; without it a guest does nothing and has no vsock. It gets
//                            one argument, a JSON file that describes the virtual machine. Its stdin, stdout and
//                            stderr are the console; `<vsockDir>/<port>.sock`, as that file says, are the ports it
//                            listens at. Exit status 0: the guest powered off; another end: it crashed. It dies with
//                            the helper.
//   DROVER_VZ_DOUBLE_DIR     where that file and the ports' directory are made, in a directory named after the
//                            helper's process id; otherwise /tmp.
//   DROVER_VZ_DOUBLE         words with commas in between:
//     unsupported            this Mac cannot run virtual machines
//     unentitled             the helper is not signed: no configuration is valid
//     entitlementHidden      it is, but Security does not say so
//     macos=15.3.1           its version, which @available goes by
//     rosetta=installed      or notInstalled, notSupported
//     nested                 it can nest
//     purgeable=BYTES        room that macOS would make, beyond what is free
//     invalid                no configuration is good enough
//     startFails, startHangs, startBlocks (the main thread), startThrows
//     guestStops, guestCrashes (as soon as it runs), networkLost (likewise)
//     connectHangs, connectThrows
//     panicResets            a guest that ends with status 77 has panicked: the machine boots again, in place
//     halfClose              the end of the host's sending reaches the guest. On a Mac it does not
//     sleepUntold (macOS does not tell of sleep and wake)
//
// SIGUSR1 puts the Mac to sleep, SIGUSR2 wakes it.
#import "linux.h"

/// Whether `word` is among the words of DROVER_VZ_DOUBLE.
BOOL knob(const char *word);
/// The text after `word=` in DROVER_VZ_DOUBLE, or nil.
NSString *knobValue(const char *word);

NSError *vzError(NSInteger code, NSString *text);
/// Runs `block` on the main thread, later: the main queue.
void later(void (^block)(void));
void laterBy(int ms, void (^block)(void));

/// From now on SIGUSR1 and SIGUSR2 are what the head of this file says.
void takeSignals(void);

@class VZVirtualMachineConfiguration;
/// The JSON for the guest.
NSDictionary *describe(VZVirtualMachineConfiguration *configuration, NSString *vsockDir);
