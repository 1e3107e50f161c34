#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/CLinuxGuest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#define MARTLET_EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#define MARTLET_ENTROPY_MAX 4096

int martlet_guest_open_terminal(int *controller, int *terminal) {
  int unlocked = 0;
  int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  if (ioctl(fd, TIOCSPTLCK, &unlocked) < 0) goto fail;
  int peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (peer < 0) goto fail;
  *controller = fd;
  *terminal = peer;
  return 0;
fail:;
  int error = errno;
  close(fd);
  return -error;
}

int martlet_guest_set_window_size(int fd, uint16_t columns, uint16_t rows) {
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  return ioctl(fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

int martlet_guest_wait(int id_type, int id, int flags, int *code, int *status) {
  siginfo_t info;
  memset(&info, 0, sizeof info);
  if (waitid((idtype_t)id_type, (id_t)id, &info, WEXITED | WNOHANG | flags) < 0) return -errno;
  *code = info.si_code;
  *status = info.si_status;
  return info.si_pid;
}

int martlet_guest_resize_ext4(int fd, uint64_t blocks) {
  return ioctl(fd, MARTLET_EXT4_IOC_RESIZE_FS, &blocks) < 0 ? -errno : 0;
}

int martlet_guest_add_entropy(int fd, const uint8_t *bytes, size_t count) {
  uint32_t buffer[(sizeof(struct rand_pool_info) + MARTLET_ENTROPY_MAX) / sizeof(uint32_t)];
  struct rand_pool_info *pool = (struct rand_pool_info *)buffer;
  if (count == 0 || count > MARTLET_ENTROPY_MAX) return -EINVAL;
  pool->entropy_count = (int)count * 8;
  pool->buf_size = (int)count;
  memcpy(pool->buf, bytes, count);
  int result = ioctl(fd, RNDADDENTROPY, pool) < 0 ? -errno : 0;
  explicit_bzero(buffer, sizeof buffer);
  if (result < 0) return result;
  return ioctl(fd, RNDRESEEDCRNG) < 0 ? -errno : 0;
}

static int control_link(unsigned long request, void *argument) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int result = ioctl(fd, request, argument) < 0 ? -errno : 0;
  close(fd);
  return result;
}

static int name_link(struct ifreq *request, const char *name) {
  memset(request, 0, sizeof *request);
  size_t length = strlen(name);
  if (length == 0 || length >= sizeof request->ifr_name) return -EINVAL;
  memcpy(request->ifr_name, name, length);
  return 0;
}

static void set_inet(struct sockaddr *target, uint32_t address) {
  struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = address};
  memcpy(target, &inet, sizeof inet);
}

int martlet_guest_link_exists(const char *name) {
  struct ifreq request;
  int result = name_link(&request, name);
  return result < 0 ? result : control_link(SIOCGIFINDEX, &request);
}

int martlet_guest_link_up(const char *name) {
  struct ifreq request;
  int result = name_link(&request, name);
  if (result < 0 || (result = control_link(SIOCGIFFLAGS, &request)) < 0) return result;
  request.ifr_flags |= IFF_UP;
  return control_link(SIOCSIFFLAGS, &request);
}

int martlet_guest_set_link_address(const char *name, const uint8_t mac[6]) {
  struct ifreq request;
  int result = name_link(&request, name);
  if (result < 0) return result;
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  memcpy(request.ifr_hwaddr.sa_data, mac, 6);
  return control_link(SIOCSIFHWADDR, &request);
}

int martlet_guest_set_address(const char *name, uint32_t address, uint32_t mask) {
  struct ifreq request;
  int result = name_link(&request, name);
  if (result < 0) return result;
  set_inet(&request.ifr_addr, address);
  if ((result = control_link(SIOCSIFADDR, &request)) < 0) return result;
  set_inet(&request.ifr_netmask, mask);
  return control_link(SIOCSIFNETMASK, &request);
}

int martlet_guest_add_default_route(const char *name, uint32_t gateway) {
  struct ifreq check;
  int result = name_link(&check, name);
  if (result < 0) return result;
  struct rtentry route;
  memset(&route, 0, sizeof route);
  set_inet(&route.rt_dst, 0);
  set_inet(&route.rt_genmask, 0);
  set_inet(&route.rt_gateway, gateway);
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  route.rt_dev = check.ifr_name;
  return control_link(SIOCADDRT, &route);
}

int martlet_guest_ipv4(const struct sockaddr *address, uint32_t *value) {
  struct sockaddr_in inet;
  if (address == NULL || address->sa_family != AF_INET) return -EAFNOSUPPORT;
  memcpy(&inet, address, sizeof inet);
  *value = ntohl(inet.sin_addr.s_addr);
  return 0;
}

int martlet_guest_milliseconds_since_data(int fd, uint32_t *milliseconds) {
  struct tcp_info info = {0};
  socklen_t length = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) return -errno;
  *milliseconds = info.tcpi_last_data_recv;
  return 0;
}

int martlet_guest_open_signals(const int *signals, size_t count) {
  sigset_t set;
  sigemptyset(&set);
  for (size_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
  int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
  if (error != 0) return -error;
  int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}
