// The subset of Objective-C that is right both under ARC (macOS) and under manual reference counting (GNUstep with
// GCC's runtime, where the tests run): explicit instance variables and @synthesize, no literals, no subscripts, no weak
// references, no retain and release. What is made by alloc and init is handed to KEPT, at once.
#import <Foundation/Foundation.h>

#if __has_feature(objc_arc)
#define KEPT(object) (object)
#else
#define KEPT(object) [(object) autorelease]
#endif
