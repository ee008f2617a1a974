// GNUstep looks for the blocks runtime under the name that libobjc2 gives it; GCC's has none.
#include <Block.h>
