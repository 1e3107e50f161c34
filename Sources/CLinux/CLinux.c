#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

const int clinux_clone_newnet = CLONE_NEWNET;
const unsigned long clinux_clone_newpid = CLONE_NEWPID;
const unsigned long clinux_clone_newipc = CLONE_NEWIPC;
const unsigned long clinux_clone_newuts = CLONE_NEWUTS;

int clinux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_pidfd_send_signal(int pidfd, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int clinux_pidfd_wait(int pidfd, int blocks, int *code, int *status) {
  siginfo_t info = {0};
  int result;
  do {
    result = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | (blocks ? 0 : WNOHANG));
  } while (result < 0 && errno == EINTR);
  if (result < 0) return -1;
  if (info.si_pid == 0) return 0;
  *code = info.si_code;
  *status = info.si_status;
  return 1;
}

int clinux_setns(int fd, int type) { return setns(fd, type); }

int clinux_unshare(int flags) { return unshare(flags); }

int clinux_pipe(int ends[2], int flags) { return pipe2(ends, flags); }

int clinux_open(const char *path, int flags, unsigned mode) { return open(path, flags, mode); }

int clinux_open_tap(const char *name, int vnet_header) {
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -1;
  struct ifreq request = {0};
  for (int i = 0; i < IFNAMSIZ - 1 && name[i]; i++) request.ifr_name[i] = name[i];
  request.ifr_flags = IFF_TAP | IFF_NO_PI | (vnet_header ? IFF_VNET_HDR : 0);
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

void clinux_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

long clinux_clock_ticks_per_second(void) { return sysconf(_SC_CLK_TCK); }

int clinux_set_window_size(int fd, unsigned short columns, unsigned short rows) {
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  return ioctl(fd, TIOCSWINSZ, &size);
}

void clinux_read_tsc(uint64_t *ticks, uint64_t *nanoseconds) {
  struct timespec now;
  *ticks = __rdtsc();
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  *nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
