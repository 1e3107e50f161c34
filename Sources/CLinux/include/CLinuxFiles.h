// File interfaces that Swift cannot import: variadic functions, system calls without a glibc wrapper. No logic.
#pragma once

#include <stddef.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

// openat(2); -1 and errno on failure.
int clinux_openat(int directory, const char *path, int flags, unsigned mode);

// openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: the path stays below `directory` and no component may be a symbolic link.
int clinux_open_beneath(int directory, const char *path, int flags);

// memmem(3)
const void *clinux_find(const void *bytes, size_t count, const void *pattern, size_t pattern_count);

extern const int clinux_o_path;

// copy_file_range(2) from the current offset of both files. Returns the bytes copied, 0 at the end, -1 on error.
ssize_t clinux_copy_file_range(int source, int target, size_t length);
