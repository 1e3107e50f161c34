// User-space page faults, other processes' memory, and the sockets that transfer both. No logic. Functions return a
// negative errno on failure unless stated otherwise.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

// --- userfaultfd(2), ioctl_userfaultfd(2) ----------------------------------------

enum {
  CLINUX_USERFAULT_PAGE = 1,   // a thread waits for the page at `start`
  CLINUX_USERFAULT_REMOVE = 2, // the pages in start..<end are being removed
  CLINUX_USERFAULT_OTHER = 3,
};

struct clinux_userfault_event {
  int kind;
  uint64_t start;
  uint64_t end;   // of CLINUX_USERFAULT_REMOVE
  uint64_t flags; // of CLINUX_USERFAULT_PAGE
};

extern const uint64_t clinux_userfault_event_remove;        // UFFD_FEATURE_EVENT_REMOVE
// Features for tracking writes: WP, WP_UNPOPULATED, WP_ASYNC.
extern const uint64_t clinux_userfault_asynchronous_protect;

// Returns a userfaultfd with UFFDIO_API done: close-on-exec, non-blocking. -EINVAL when the kernel lacks one of
// `features`.
int clinux_userfault_open(uint64_t features);
// Whether a descriptor is a userfaultfd; needs no /proc.
int clinux_userfault_is(int fd);
// UFFDIO_REGISTER for missing pages, and for write protection when `protects`.
int clinux_userfault_register(int fd, uint64_t start, uint64_t length, int protects);
enum { CLINUX_USERFAULT_MESSAGE_BYTES = 32 }; // sizeof(struct uffd_msg)
// Reads at most `capacity` waiting messages in the kernel's format. Returns 0 when none waits.
int clinux_userfault_read(int fd, void *messages, int capacity);
void clinux_userfault_decode(const void *message, struct clinux_userfault_event *event);
// UFFDIO_COPY; *done is the number of bytes placed, also on failure.
int clinux_userfault_copy(int fd, uint64_t target, const void *source, uint64_t length, int protects, uint64_t *done);
// UFFDIO_ZEROPAGE; *done as above.
int clinux_userfault_zero(int fd, uint64_t target, uint64_t length, uint64_t *done);
// UFFDIO_WAKE
int clinux_userfault_wake(int fd, uint64_t start, uint64_t length);
// UFFDIO_WRITEPROTECT
int clinux_userfault_protect(int fd, uint64_t start, uint64_t length, int protects);

// After this call a SIGBUS of this process (an unreadable mapped file) writes `message` to `failure_fd`, kills the
// process of `pidfd` (unless it is -1) and ends this process with `exit_code`. Can be called again; the message is
// copied (1023 bytes).
int clinux_end_on_bus_error(int failure_fd, const char *message, int pidfd, int exit_code);

// --- memory of other processes ----------------------------------------

// pidfd_getfd(2); the result is close-on-exec.
int clinux_pidfd_getfd(int pidfd, int fd);
// process_vm_readv(2). Returns the number of bytes read, which may be smaller than requested.
ssize_t clinux_process_read(
    pid_t pid, const struct iovec *local, size_t local_count, const struct iovec *remote, size_t remote_count);

// PAGEMAP_SCAN (Linux 6.7). Source: Documentation/admin-guide/mm/pagemap.rst
struct clinux_page_region {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

enum {
  CLINUX_PAGE_WPALLOWED = 1 << 0,
  CLINUX_PAGE_WRITTEN = 1 << 1,
  CLINUX_PAGE_FILE = 1 << 2,
  CLINUX_PAGE_PRESENT = 1 << 3,
  CLINUX_PAGE_SWAPPED = 1 << 4,
  CLINUX_PAGE_PFNZERO = 1 << 5,
};

// Finds the regions of start..<end whose pages have none of `without`, all of `with` and at least one of `any`. Returns
// the number of regions; *walked is the address where the scan stopped. -ENOTTY on older kernels; with
// `needs_tracking`, -EPERM where writes are not tracked.
int clinux_pagemap_scan(
  int pagemap, uint64_t start, uint64_t end, uint64_t with, uint64_t without, uint64_t any, int needs_tracking,
  struct clinux_page_region *regions, size_t capacity, uint64_t *walked);

// --- Unix sockets ----------------------------------------

// Makes a listening stream socket, close-on-exec; the path has at most 107 bytes.
int clinux_unix_listen(const char *path, int backlog);
int clinux_unix_connect(const char *path);
// accept4(2), close-on-exec.
int clinux_unix_accept(int fd);
// SO_PEERCRED
int clinux_unix_peer(int fd, pid_t *pid, uid_t *uid);
// Receives one message with at most one descriptor (-1 when there is none). -EPROTO when it carries more; none of them
// is kept then.
ssize_t clinux_unix_receive(int fd, void *buffer, size_t capacity, int *descriptor);
// Sends one message with descriptors (at most 4).
ssize_t clinux_unix_send(int fd, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count);
