// File interfaces that Swift cannot import: variadic functions, system calls without a glibc wrapper. No logic.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

// openat(2); -1 and errno on failure.
int clinux_openat(int directory, const char *path, int flags, unsigned mode);

// openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: the path stays below `directory`, and no component may be a
// symbolic link.
int clinux_open_beneath(int directory, const char *path, int flags);

// Makes a file of `size` zero bytes in memory that can be neither written, nor mapped for writing, nor resized
// (memfd_create(2), F_SEAL_WRITE). Returns a close-on-exec descriptor, or -1 and errno.
int clinux_sealed_memory(const char *name, uint64_t bytes);

// Sends one message with a descriptor (SCM_RIGHTS, unix(7)) on a stream socket, without blocking. Returns the bytes
// sent, -1 on error.
ssize_t clinux_send_descriptor(int socket, const void *bytes, size_t count, int descriptor);

// memmem(3)
const void *clinux_find(const void *bytes, size_t count, const void *pattern, size_t pattern_count);

extern const int clinux_o_path;

// Takes an open file description lock on the whole file (fcntl(2), F_OFD_SETLK); it is released with the last
// descriptor. Returns 1 when it was taken, 0 when another description holds it, -errno on error.
int clinux_file_lock(int fd);
// Returns 1 when another description holds the lock, 0 when none does, -errno on error.
int clinux_file_is_locked(int fd);

// Access to words of memory that processes share; sequentially consistent.
static inline uint64_t clinux_shared_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void clinux_shared_store(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

// lseek(2)
extern const int clinux_seek_data;
extern const int clinux_seek_hole;

// copy_file_range(2) from the current offset of both files. Returns the bytes copied, 0 at the end, -1 on error.
ssize_t clinux_copy_file_range(int source, int target, size_t length);
// The same between given offsets; the files' own offsets stay.
ssize_t clinux_copy_file_range_at(int source, off_t source_offset, int target, off_t target_offset, size_t length);
