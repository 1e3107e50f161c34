#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

enum { MAXIMUM_MESSAGE = 1024 };

const uint64_t clinux_userfault_event_remove = UFFD_FEATURE_EVENT_REMOVE;
const uint64_t clinux_userfault_asynchronous_protect =
  UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;

static int open_descriptor(void) {
  int node = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (node >= 0) {
    int fd = ioctl(node, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    close(node);
    if (fd >= 0) return fd;
  }
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

int clinux_userfault_open(uint64_t features) {
  int fd = open_descriptor();
  if (fd < 0) return fd;
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  if (ioctl(fd, UFFDIO_API, &api) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

// Files of other kinds have a type, or do not know the request at all; a userfaultfd refuses the empty range.
int clinux_userfault_is(int fd) {
  struct stat status;
  struct uffdio_range empty = {0};
  if (fstat(fd, &status) < 0 || (status.st_mode & S_IFMT) != 0) return 0;
  return ioctl(fd, UFFDIO_WAKE, &empty) < 0 && errno == EINVAL;
}

int clinux_userfault_register(int fd, uint64_t start, uint64_t length, int protects) {
  struct uffdio_register request = {
    .range = {.start = start, .len = length},
    .mode = UFFDIO_REGISTER_MODE_MISSING | (protects ? UFFDIO_REGISTER_MODE_WP : 0),
  };
  return ioctl(fd, UFFDIO_REGISTER, &request) < 0 ? -errno : 0;
}

_Static_assert(sizeof(struct uffd_msg) == CLINUX_USERFAULT_MESSAGE_BYTES, "size of the kernel's messages");

void clinux_userfault_decode(const void *bytes, struct clinux_userfault_event *event) {
  const struct uffd_msg *message = bytes;
  *event = (struct clinux_userfault_event){.kind = CLINUX_USERFAULT_OTHER};
  if (message->event == UFFD_EVENT_PAGEFAULT) {
    event->kind = CLINUX_USERFAULT_PAGE;
    event->start = message->arg.pagefault.address;
    event->flags = message->arg.pagefault.flags;
  } else if (message->event == UFFD_EVENT_REMOVE) {
    event->kind = CLINUX_USERFAULT_REMOVE;
    event->start = message->arg.remove.start;
    event->end = message->arg.remove.end;
  }
}

int clinux_userfault_read(int fd, void *messages, int capacity) {
  ssize_t count;
  do {
    count = read(fd, messages, (size_t)capacity * sizeof(struct uffd_msg));
  } while (count < 0 && errno == EINTR);
  if (count < 0) return errno == EAGAIN ? 0 : -errno;
  return (int)((size_t)count / sizeof(struct uffd_msg));
}

// If a part of the range was placed, the kernel returns EAGAIN and the number of bytes; if nothing was placed, the
// field holds the negative errno.
static int placed(int result, int64_t bytes, uint64_t *done) {
  int error = errno;
  *done = bytes > 0 ? (uint64_t)bytes : 0;
  return result < 0 ? -error : 0;
}

int clinux_userfault_copy(int fd, uint64_t target, const void *source, uint64_t length, int protects, uint64_t *done) {
  struct uffdio_copy request = {
    .dst = target, .src = (uint64_t)(uintptr_t)source, .len = length, .mode = protects ? UFFDIO_COPY_MODE_WP : 0};
  return placed(ioctl(fd, UFFDIO_COPY, &request), request.copy, done);
}

int clinux_userfault_zero(int fd, uint64_t target, uint64_t length, uint64_t *done) {
  struct uffdio_zeropage request = {.range = {.start = target, .len = length}};
  return placed(ioctl(fd, UFFDIO_ZEROPAGE, &request), request.zeropage, done);
}

int clinux_userfault_wake(int fd, uint64_t start, uint64_t length) {
  struct uffdio_range range = {.start = start, .len = length};
  return ioctl(fd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

int clinux_userfault_protect(int fd, uint64_t start, uint64_t length, int protects) {
  struct uffdio_writeprotect request = {
    .range = {.start = start, .len = length}, .mode = protects ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
  return ioctl(fd, UFFDIO_WRITEPROTECT, &request) < 0 ? -errno : 0;
}

// State of the signal handler, which may use only these variables and system calls.
static volatile int bus_failure_fd = -1;
static volatile int bus_pidfd = -1;
static volatile int bus_exit_code = 1;
static char bus_message[MAXIMUM_MESSAGE];
static volatile size_t bus_message_length;

static void end_on_bus_error(int number) {
  (void)number;
  ssize_t written = write(bus_failure_fd, bus_message, bus_message_length);
  (void)written;
  if (bus_pidfd >= 0) syscall(SYS_pidfd_send_signal, bus_pidfd, SIGKILL, NULL, 0);
  _exit(bus_exit_code);
}

int clinux_end_on_bus_error(int failure_fd, const char *message, int pidfd, int exit_code) {
  size_t length = strnlen(message, MAXIMUM_MESSAGE - 1);
  memcpy(bus_message, message, length);
  bus_message_length = length;
  bus_failure_fd = failure_fd;
  bus_pidfd = pidfd;
  bus_exit_code = exit_code;
  struct sigaction action = {.sa_handler = end_on_bus_error};
  return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}
