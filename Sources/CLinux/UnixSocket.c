#include "CLinux.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAXIMUM_SENT = 4, MAXIMUM_RECEIVED = 16 };

static int make_address(const char *path, struct sockaddr_un *address) {
  size_t length = strlen(path);
  if (length == 0 || length >= sizeof address->sun_path) return -ENAMETOOLONG;
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length);
  return 0;
}

int clinux_unix_listen(const char *path, int backlog) {
  struct sockaddr_un address;
  int failure = make_address(path, &address);
  if (failure < 0) return failure;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, backlog) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int clinux_unix_connect(const char *path) {
  struct sockaddr_un address;
  int failure = make_address(path, &address);
  if (failure < 0) return failure;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int clinux_unix_accept(int fd) {
  int result;
  do {
    result = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

int clinux_unix_peer(int fd, pid_t *pid, uid_t *uid) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -errno;
  *pid = peer.pid;
  *uid = peer.uid;
  return 0;
}

// Keeps the first descriptor of a message and closes the others. Returns the number of descriptors in the message.
static size_t take_descriptors(struct msghdr *message, int *first) {
  size_t total = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++, total++) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      if (total == 0) *first = fd;
      else close(fd);
    }
  }
  return total;
}

ssize_t clinux_unix_receive(int fd, void *buffer, size_t capacity, int *descriptor) {
  struct iovec vector = {.iov_base = buffer, .iov_len = capacity};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAXIMUM_RECEIVED * sizeof(int))];
  } control;
  struct msghdr message = {
    .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  *descriptor = -1;
  ssize_t count;
  do {
    count = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return -errno;
  size_t received = take_descriptors(&message, descriptor);
  if (received <= 1 && !(message.msg_flags & MSG_CTRUNC)) return count;
  if (received > 0) close(*descriptor);
  *descriptor = -1;
  return -EPROTO;
}

ssize_t clinux_unix_send(int fd, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count) {
  if (descriptor_count > MAXIMUM_SENT) return -EINVAL;
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = count};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAXIMUM_SENT * sizeof(int))];
  } control = {0};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (descriptor_count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(descriptor_count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptor_count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, descriptor_count * sizeof(int));
  }
  ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  return sent < 0 ? -errno : sent;
}
