// A minimal page server for a generation: the peer that `martlet pager` is measured against.
//
// Maps header and layers, accepts one hand-shake on descriptor 3, answers each fault with the aligned window of 32
// pages around it after comparing every page with its checksum, and spins for the next fault for 200 microseconds
// before it sleeps. No removals, no replacement, no growing windows, no statistics, no working set; errors end it.
//
// usage: handler GENERATIONS-DIRECTORY GENERATION-UUID [unchecked]
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "CLinuxChecksum.h"

enum { PAGE = 4096, WINDOW = 32, MAXIMUM_LAYERS = 64, SPIN_NANOSECONDS = 200000 };

struct run {
  uint32_t start, count, layer, page;
};

static const struct run *runs;
static uint32_t run_count, page_count;
static const unsigned char *pages_of[MAXIMUM_LAYERS];
static const uint32_t *checksums_of[MAXIMUM_LAYERS];
static unsigned char *resident;
static uint64_t base;
static int userfault, checks = 1;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static const unsigned char *map(const char *directory, const char *uuid, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s/%s", directory, uuid, name);
  int fd = open(path, O_RDONLY);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) < 0) fail(path);
  void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) fail(path);
  close(fd);
  return bytes;
}

static uint32_t word(const unsigned char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static void open_generation(const char *directory, const char *uuid) {
  const unsigned char *header = map(directory, uuid, "memory.header");
  uint32_t layers = word(header + 24);
  run_count = word(header + 28);
  runs = (const struct run *)(header + 32 + 24 * layers);
  page_count = (uint32_t)(*(const uint64_t *)(header + 16) / PAGE);
  for (uint32_t i = 0; i < layers; i++) {
    const unsigned char *id = header + 32 + 24 * i;
    char name[37];
    char *out = name;
    for (int byte = 0; byte < 16; byte++) {
      if (byte == 4 || byte == 6 || byte == 8 || byte == 10) *out++ = '-';
      out += sprintf(out, "%02x", id[byte]);
    }
    const unsigned char *layer = map(directory, name, "memory.layer");
    pages_of[i] = layer + PAGE;
    checksums_of[i] = (const uint32_t *)(layer + PAGE + (size_t)word(id + 16) * PAGE);
  }
  resident = calloc(page_count, 1);
}

static uint32_t run_at(uint32_t page) {
  uint32_t low = 0, high = run_count;
  while (high - low > 1) {
    uint32_t middle = (low + high) / 2;
    if (runs[middle].start <= page) low = middle;
    else high = middle;
  }
  return low;
}

static void copy(uint32_t page, uint32_t count, uint32_t layer, uint32_t first) {
  const unsigned char *source = pages_of[layer] + (size_t)first * PAGE;
  if (checks && clinux_crc32c_first_mismatch(source, PAGE, count, checksums_of[layer] + first) < count) fail("damaged");
  while (count > 0) {
    struct uffdio_copy request = {
      .dst = base + (uint64_t)page * PAGE, .src = (uint64_t)(uintptr_t)source, .len = (uint64_t)count * PAGE, .mode = UFFDIO_COPY_MODE_WP};
    if (ioctl(userfault, UFFDIO_COPY, &request) < 0 && errno != EEXIST && errno != EAGAIN) exit(errno == ESRCH ? 0 : 1);
    uint32_t done = request.copy > 0 ? (uint32_t)(request.copy / PAGE) : 1;
    page += done, source += (size_t)done * PAGE, count -= done;
  }
}

static void zero(uint32_t page, uint32_t count) {
  struct uffdio_zeropage request = {.range = {.start = base + (uint64_t)page * PAGE, .len = (uint64_t)count * PAGE}};
  if (ioctl(userfault, UFFDIO_ZEROPAGE, &request) < 0 && errno != EEXIST && errno != EAGAIN) exit(errno == ESRCH ? 0 : 1);
}

static void serve(uint64_t address) {
  uint32_t faulting = (uint32_t)((address - base) / PAGE), page = faulting & ~(uint32_t)(WINDOW - 1);
  uint32_t end = page + WINDOW < page_count ? page + WINDOW : page_count;
  if (resident[faulting]) {
    struct uffdio_range range = {.start = base + (uint64_t)faulting * PAGE, .len = PAGE};
    ioctl(userfault, UFFDIO_WAKE, &range);
    return;
  }
  uint32_t index = run_at(page);
  while (page < end) {
    uint32_t stop = runs[index].start + runs[index].count;
    if (stop > end) stop = end;
    if (runs[index].layer == UINT32_MAX) zero(page, stop - page);
    else copy(page, stop - page, runs[index].layer, runs[index].page + page - runs[index].start);
    memset(resident + page, 1, stop - page);
    page = stop;
    index++;
  }
}

static int serve_waiting(void) {
  struct uffd_msg messages[64];
  ssize_t count = read(userfault, messages, sizeof messages);
  if (count <= 0) return 0;
  for (size_t i = 0; i < (size_t)count / sizeof messages[0]; i++)
    if (messages[i].event == UFFD_EVENT_PAGEFAULT) serve(messages[i].arg.pagefault.address);
  return 1;
}

static int accept_memory(void) {
  int connection = accept(3, NULL, NULL);
  char text[4096], control[CMSG_SPACE(sizeof(int))];
  struct iovec vector = {.iov_base = text, .iov_len = sizeof text - 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t count = recvmsg(connection, &message, 0);
  if (count <= 0 || !CMSG_FIRSTHDR(&message)) fail("hand-shake");
  text[count] = 0;
  memcpy(&userfault, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof userfault);
  if (sscanf(text, "[{\"base_host_virt_addr\":%lu", &base) != 1) fail("hand-shake");
  if (write(connection, "", 1) != 1) fail("hand-shake");
  return connection;
}

static uint64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int main(int count, char **arguments) {
  if (count < 3) return 64;
  checks = count == 3;
  open_generation(arguments[1], arguments[2]);
  int connection = accept_memory();
  for (;;) {
    struct pollfd polled[] = {{.fd = userfault, .events = POLLIN}, {.fd = connection, .events = POLLIN}};
    poll(polled, 2, -1);
    if (polled[1].revents) return 0;
    uint64_t end = nanoseconds() + SPIN_NANOSECONDS;
    while (nanoseconds() < end)
      if (serve_waiting()) end = nanoseconds() + SPIN_NANOSECONDS;
  }
}
