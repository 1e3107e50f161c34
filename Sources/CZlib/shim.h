#pragma once
// The same view of the C library's types as CLinux has: modules that disagree about fd_set cannot be imported together.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <zlib.h>
