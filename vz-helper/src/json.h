// Whether a line is JSON (RFC 8259). What parses it on macOS and elsewhere is lenient, each in its own way, and goes as
// deep as the line is long.
#include <stddef.h>

enum json_verdict { JsonGood, JsonBad, JsonTooDeep };

/// Of one value, and white space around it. Whether its strings are Unicode is left to the parser.
enum json_verdict json_check(const char *bytes, size_t length, int maxDepth);
