#include "QEMUPagerShim.h"
