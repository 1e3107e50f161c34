#include "CLinux.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

const int clinux_o_path = O_PATH;

const void *clinux_find(const void *bytes, size_t count, const void *pattern, size_t pattern_count) {
  return memmem(bytes, count, pattern, pattern_count);
}

int clinux_openat(int directory, const char *path, int flags, unsigned mode) { return openat(directory, path, flags, mode); }

int clinux_open_beneath(int directory, const char *path, int flags) {
  struct open_how how = {.flags = (uint64_t)(unsigned)flags, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
  return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

ssize_t clinux_copy_file_range(int source, int target, size_t length) {
  return copy_file_range(source, NULL, target, NULL, length, 0);
}
