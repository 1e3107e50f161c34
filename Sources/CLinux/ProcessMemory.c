#include "CLinux.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// The headers of Debian 12 lack these definitions. Source: linux/fs.h of Linux 6.7
struct pagemap_scan {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
_Static_assert(sizeof(struct pagemap_scan) == 96, "the kernel's struct pm_scan_arg");
_Static_assert(sizeof(struct clinux_page_region) == 24, "the kernel's struct page_region");
#define MARTLET_PAGEMAP_SCAN _IOWR('f', 16, struct pagemap_scan)
#define MARTLET_SCAN_CHECK_WPASYNC (1 << 1)

int clinux_pidfd_getfd(int pidfd, int fd) {
  int result = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
  return result < 0 ? -errno : result;
}

ssize_t clinux_process_read(
    pid_t pid, const struct iovec *local, size_t local_count, const struct iovec *remote, size_t remote_count) {
  ssize_t result = process_vm_readv(pid, local, local_count, remote, remote_count, 0);
  return result < 0 ? -errno : result;
}

int clinux_pagemap_scan(
  int pagemap, uint64_t start, uint64_t end, uint64_t with, uint64_t without, uint64_t any, int needs_tracking,
  struct clinux_page_region *regions, size_t capacity, uint64_t *walked) {
  struct pagemap_scan scan = {
    .size = sizeof scan,
    .flags = needs_tracking ? MARTLET_SCAN_CHECK_WPASYNC : 0,
    .start = start,
    .end = end,
    .vec = (uint64_t)(uintptr_t)regions,
    .vec_len = capacity,
    .category_inverted = without,
    .category_mask = with | without,
    .category_anyof_mask = any,
    .return_mask = CLINUX_PAGE_PRESENT | CLINUX_PAGE_SWAPPED,
  };
  int count;
  do {
    count = ioctl(pagemap, MARTLET_PAGEMAP_SCAN, &scan);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return -errno;
  *walked = scan.walk_end;
  return count;
}
