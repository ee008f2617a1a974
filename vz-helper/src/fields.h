// Reads the keys of a request and remembers the first thing that is wrong, so that the code which reads needs no checks
// in between: after a problem every getter gives some harmless value.
#import "portable.h"

@interface DVZProblem : NSObject {
  NSError *_error;
}
/// The first one; but a request that is wrong goes before a Mac that cannot, whatever was noticed first.
@property(nonatomic, strong) NSError *error;
/// A `badRequest`: `key: text`.
- (void)key:(NSString *)key is:(NSString *)text;
@end

@interface DVZFields : NSObject {
  NSDictionary *_values;
  NSMutableSet *_known;
  DVZProblem *_problem;
  NSString *_path;
}
/// `path` is what stands before the keys in errors: empty, or such as `config`.
+ (DVZFields *)of:(id)value at:(NSString *)path problem:(DVZProblem *)problem;

/// The name of `key` in errors, such as `config.disks.0.path`.
- (NSString *)nameOf:(NSString *)key;
- (BOOL)has:(NSString *)key;

- (BOOL)boolean:(NSString *)key;
/// A multiple of `step`.
- (unsigned long long)integer:(NSString *)key
                          min:(unsigned long long)min
                          max:(unsigned long long)max
                         step:(unsigned long long)step;
/// UTF-8 of `min` to `max` bytes without NUL.
- (NSString *)text:(NSString *)key min:(NSUInteger)min max:(NSUInteger)max;
/// An absolute path of at most `max` bytes.
- (NSString *)path:(NSString *)key max:(NSUInteger)max;
- (NSString *)oneOf:(NSArray *)choices key:(NSString *)key;

- (DVZFields *)object:(NSString *)key;
/// nil for `null`, and after a problem.
- (DVZFields *)objectOrNull:(NSString *)key;
/// Array of DVZFields.
- (NSArray *)objects:(NSString *)key max:(NSUInteger)max;

- (void)key:(NSString *)key is:(NSString *)text;
/// Keys that were not asked for are a problem.
- (void)end;
@end
