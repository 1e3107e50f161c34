#include "QEMUPagerShim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

enum { PAGE_BYTES = 4096, MAXIMUM_JSON = 256, PAGER_SECONDS = 30 };
enum memory_mode { MODE_INERT, MODE_ANONYMOUS, MODE_USERFAULT };

static enum memory_mode mode = MODE_INERT;
static dev_t placeholder_device;
static ino_t placeholder_inode;
static char *pager_socket;
static int regions_file = -1;
static int userfault_node = -1;
static int is_mapped;
// The userfaultfd and the connection stay open until the process ends.
static int userfault = -1;
static int connection = -1;

static void die(const char *what, int error) {
  dprintf(STDERR_FILENO, "martlet memory: %s%s%s\n", what, error ? ": " : "", error ? strerror(error) : "");
  _exit(1);
}

// --- configuration ---------------------------------------------------------------------------------------------------

static enum memory_mode parse_mode(const char *text) {
  if (text && strcmp(text, "anonymous") == 0) return MODE_ANONYMOUS;
  if (text && strcmp(text, "userfault") == 0) return MODE_USERFAULT;
  die("MARTLET_MEMORY_MODE is neither anonymous nor userfault", 0);
  return MODE_INERT;
}

static int parse_descriptor(const char *name) {
  const char *text = getenv(name);
  int value = text ? atoi(text) : -1;
  if (value <= STDERR_FILENO || fcntl(value, F_SETFD, FD_CLOEXEC) < 0) die(name, EBADF);
  unsetenv(name);
  return value;
}

__attribute__((constructor)) static void configure(void) {
  const char *file = getenv("MARTLET_MEMORY_FILE");
  if (!file) return;
  // Processes of the same user can neither trace the VMM nor read its memory.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) die("PR_SET_DUMPABLE", errno);
  mode = parse_mode(getenv("MARTLET_MEMORY_MODE"));
  struct stat status;
  if (stat(file, &status) < 0) die("the placeholder of MARTLET_MEMORY_FILE", errno);
  placeholder_device = status.st_dev;
  placeholder_inode = status.st_ino;
  regions_file = parse_descriptor("MARTLET_MEMORY_REGIONS");
  if (mode == MODE_USERFAULT) {
    userfault_node = parse_descriptor("MARTLET_USERFAULT_DEVICE");
    const char *path = getenv("MARTLET_PAGER_SOCKET");
    if (!path) die("MARTLET_PAGER_SOCKET is not set", 0);
    pager_socket = strdup(path);
    if (!pager_socket) die("memory", ENOMEM);
  }
  unsetenv("MARTLET_MEMORY_FILE");
  unsetenv("MARTLET_MEMORY_MODE");
  unsetenv("MARTLET_PAGER_SOCKET");
  unsetenv("LD_PRELOAD");
}

// --- userfaultfd -----------------------------------------------------------------------------------------------------

// The open device is all that is needed, no privilege. Source: Documentation/admin-guide/mm/userfaultfd.rst
static int open_userfault(void) { return ioctl(userfault_node, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK); }

// Returns 0, or the errno of the step that this kernel rejects.
static int watch(uint64_t start, uint64_t length, uint64_t features, uint64_t extra_mode) {
  int fd = open_userfault();
  if (fd < 0) return errno;
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  struct uffdio_register request = {
    .range = {.start = start, .len = length}, .mode = UFFDIO_REGISTER_MODE_MISSING | extra_mode};
  if (ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &request) == 0) {
    userfault = fd;
    return 0;
  }
  int error = errno;
  close(fd);
  return error;
}

// Without write tracking a snapshot must compare every page that was touched. Without removal events a page that the
// guest has removed is served again with its old content.
static void watch_with_what_the_kernel_has(uint64_t start, uint64_t length) {
  const uint64_t tracking = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;
  if (watch(start, length, UFFD_FEATURE_EVENT_REMOVE | tracking, UFFDIO_REGISTER_MODE_WP) == 0) return;
  if (watch(start, length, UFFD_FEATURE_EVENT_REMOVE, 0) == 0) return;
  int error = watch(start, length, 0, 0);
  if (error) die("userfaultfd", error);
}

static void watch_memory(uint64_t start, uint64_t length) {
  watch_with_what_the_kernel_has(start, length);
  close(userfault_node);
}

// --- hand-shake ------------------------------------------------------------------------------------------------------

static void store_regions(const char *json, size_t length) {
  ssize_t written = write(regions_file, json, length);
  if (written != (ssize_t)length) die("memory-regions.json", written < 0 ? errno : ENOSPC);
  close(regions_file);
}

static void connect_pager(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(pager_socket);
  if (length == 0 || length >= sizeof address.sun_path) die("MARTLET_PAGER_SOCKET", ENAMETOOLONG);
  memcpy(address.sun_path, pager_socket, length);
  connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0) die("socket", errno);
  struct timeval limit = {.tv_sec = PAGER_SECONDS};
  if (setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
      setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)
    die("setsockopt", errno);
  if (connect(connection, (struct sockaddr *)&address, sizeof address) < 0) die("connecting to the pager", errno);
}

static void send_regions(char *json, size_t length) {
  struct iovec vector = {.iov_base = json, .iov_len = length};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {
    .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &userfault, sizeof userfault);
  ssize_t sent = sendmsg(connection, &message, MSG_NOSIGNAL);
  if (sent != (ssize_t)length) die("sending to the pager", sent < 0 ? errno : EIO);
}

// A pager that refuses the memory closes the connection; QEMU must not continue without a pager.
static void await_pager(void) {
  char response;
  ssize_t count;
  do {
    count = read(connection, &response, 1);
  } while (count < 0 && errno == EINTR);
  if (count < 0) die("waiting for the pager", errno);
  if (count == 0) die("the pager refused the memory", 0);
}

// --- mmap ------------------------------------------------------------------------------------------------------------

static void *map_raw(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

static int is_placeholder(int fd) {
  struct stat status;
  int saved = errno;
  int matches = fstat(fd, &status) == 0 && status.st_dev == placeholder_device && status.st_ino == placeholder_inode;
  errno = saved;
  return matches;
}

static void *map_guest_memory(void *address, size_t length, int protection, int flags, off_t offset) {
  if (__atomic_exchange_n(&is_mapped, 1, __ATOMIC_SEQ_CST)) die("the placeholder was mapped twice", 0);
  if (length == 0 || length % PAGE_BYTES != 0 || offset != 0) die("the placeholder was mapped in parts", 0);
  int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (flags & MAP_FIXED);
  void *memory = map_raw(address, length, protection, anonymous, -1, 0);
  if (memory == MAP_FAILED) die("mapping the guest's memory", errno);
  char json[MAXIMUM_JSON];
  int count = snprintf(
    json, sizeof json,
    "[{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":0,\"page_size\":%d,\"page_size_kib\":%d}]",
    (unsigned long long)(uintptr_t)memory, (unsigned long long)length, PAGE_BYTES, PAGE_BYTES);
  if (count < 0 || count >= (int)sizeof json) die("memory-regions.json", EOVERFLOW);
  store_regions(json, (size_t)count);
  if (mode == MODE_ANONYMOUS) return memory;
  watch_memory((uint64_t)(uintptr_t)memory, length);
  connect_pager();
  send_regions(json, (size_t)count);
  await_pager();
  return memory;
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (mode == MODE_INERT || fd < 0 || !(protection & PROT_WRITE) || !is_placeholder(fd))
    return map_raw(address, length, protection, flags, fd, offset);
  return map_guest_memory(address, length, protection, flags, offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  return mmap64(address, length, protection, flags, fd, offset);
}
