// Kernel interfaces that the guest agent needs and Swift cannot import: variadic ioctls, packed structs, system calls
// without a wrapper in the C library. No logic. Every function returns 0 (or a descriptor) or a negated errno.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <ifaddrs.h>
#include <malloc.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

// Terminals. Source: ioctl_tty(2), pty(7).

/// Opens a pseudo-terminal pair, both ends O_CLOEXEC|O_NOCTTY; the controlling end is also O_NONBLOCK.
int martlet_guest_open_terminal(int *controller, int *terminal);
/// TIOCSWINSZ.
int martlet_guest_set_window_size(int fd, uint16_t columns, uint16_t rows);

// Processes. Source: pidfd_open(2), waitid(2).

/// Checks without blocking whether a child has ended. Returns its pid, and its code and status as in siginfo_t; 0 when
/// no child has ended, or a negated errno. `id_type` is P_ALL or P_PID; `flags` are added to WEXITED|WNOHANG.
int martlet_guest_wait(int id_type, int id, int flags, int *code, int *status);

// Disk. Source: linux/Documentation/filesystems/ext4 (EXT4_IOC_RESIZE_FS).

/// Grows the mounted ext4 file system that `fd` is on to `blocks` of its own block size.
int martlet_guest_resize_ext4(int fd, uint64_t blocks);

// Randomness. Source: random(4).

/// RNDADDENTROPY with the bytes (at most 4096), each counted as 8 bits, then RNDRESEEDCRNG.
int martlet_guest_add_entropy(int fd, const uint8_t *bytes, size_t count);

// Network. Source: netdevice(7), route in rtnetlink's ancestor SIOCADDRT. Addresses are in network byte order.

int martlet_guest_link_up(const char *name);
int martlet_guest_link_exists(const char *name);
int martlet_guest_set_link_address(const char *name, const uint8_t mac[6]);
int martlet_guest_set_address(const char *name, uint32_t address, uint32_t mask);
int martlet_guest_add_default_route(const char *name, uint32_t gateway);
/// The IPv4 address in host byte order; -EAFNOSUPPORT for other families.
int martlet_guest_ipv4(const struct sockaddr *address, uint32_t *value);

/// TCP_INFO: milliseconds since the last data of a connection arrived in the kernel. Source:
/// linux/include/uapi/linux/tcp.h.
int martlet_guest_milliseconds_since_data(int fd, uint32_t *milliseconds);

// Signals.

/// Blocks the signals in the calling thread (and the threads that it creates later) and returns a signalfd
/// (O_CLOEXEC|O_NONBLOCK) for them.
int martlet_guest_open_signals(const int *signals, size_t count);
