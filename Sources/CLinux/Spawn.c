// The child half runs on the parent's memory until it executes a program, so it makes only system calls. Credentials
// are set by raw system calls: glibc's wrappers would signal every thread of the parent (nptl(7), "C library/kernel
// differences").
#include "CLinux.h"
#include "Mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_SPARE_DESCRIPTOR = 256, MAXIMUM_DESCRIPTORS = 128, STACK_BYTES = 65536 };

static int write_text(int fd, const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return write(fd, text, length) == (ssize_t)length ? 0 : -1;
}

static int move_aside(int source, int *spare) {
  *spare = fcntl(source, F_DUPFD_CLOEXEC, FIRST_SPARE_DESCRIPTOR);
  return *spare < 0 ? -1 : 0;
}

// Two passes: sources are first moved out of the way, since one's target may be another's source.
static int map_descriptors(const struct clinux_spawn_request *request, int tap) {
  int spares[MAXIMUM_DESCRIPTORS];
  int tap_spare = -1;
  int highest = -1;
  for (size_t i = 0; i < request->descriptor_count; i++)
    if (move_aside(request->sources[i], &spares[i]) < 0) return -1;
  if (tap >= 0 && move_aside(tap, &tap_spare) < 0) return -1;
  for (size_t i = 0; i < request->descriptor_count; i++) {
    if (dup2(spares[i], request->targets[i]) < 0) return -1;
    if (request->targets[i] > highest) highest = request->targets[i];
  }
  if (tap >= 0) {
    if (dup2(tap_spare, request->tap_target) < 0) return -1;
    if (request->tap_target > highest) highest = request->tap_target;
  }
  syscall(SYS_close_range, (unsigned)(highest + 1), ~0U, CLOSE_RANGE_CLOEXEC);
  return 0;
}

static void reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &action, NULL);
}

// The TAP of the network namespace that this process is in, as QEMU opens one.
static int open_tap(const char *name) {
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -1;
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  for (int i = 0; i < IFNAMSIZ - 1 && name[i]; i++) request.ifr_name[i] = name[i];
  return ioctl(fd, TUNSETIFF, &request) < 0 ? -1 : fd;
}

// No capability can be gained again: neither from the bounding set, nor by being root, nor from file capabilities.
static int forbid_capabilities(void) {
  for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return -1;
  return prctl(
    PR_SET_SECUREBITS,
    SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
      SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
    0, 0, 0);
}

static int clear_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
  return (int)syscall(SYS_capset, &header, none);
}

// Returns the failed step, or does not return. `detail` tells which of the mount steps it was.
static int become_program(const struct clinux_spawn_request *request, volatile int *detail) {
  int tap = -1;
  reset_signals();
  for (size_t i = 0; i < request->cgroup_count; i++)
    if (write_text(request->cgroup_procs[i], "0") < 0) return CLINUX_SPAWN_CGROUP;
  if (request->oom_score_adj) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write_text(fd, request->oom_score_adj) < 0) return CLINUX_SPAWN_LIMITS;
    close(fd);
  }
  if (request->network_namespace >= 0 && setns(request->network_namespace, CLONE_NEWNET) < 0)
    return CLINUX_SPAWN_NAMESPACE;
  if (request->tap_name && (tap = open_tap(request->tap_name)) < 0) return CLINUX_SPAWN_TAP;
  if (request->new_session && setsid() < 0) return CLINUX_SPAWN_SESSION;
  if (request->mount_namespace >= 0) {
    // A copy of the namespace: what is mounted from here on is this process's own.
    if (setns(request->mount_namespace, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0)
      return CLINUX_SPAWN_NAMESPACE;
    mode_t mask = umask(0);
    size_t failed = martlet_mount_all(request->mount_steps, request->mount_step_count);
    umask(mask);
    if (failed < request->mount_step_count) {
      *detail = (int)failed;
      return CLINUX_SPAWN_MOUNT;
    }
  }
  if (map_descriptors(request, tap) < 0) return CLINUX_SPAWN_DESCRIPTORS;
  if (request->controlling_terminal >= 0 && ioctl(request->controlling_terminal, TIOCSCTTY, 0) < 0)
    return CLINUX_SPAWN_TERMINAL;
  for (size_t i = 0; i < request->limit_count; i++) {
    struct rlimit limit = {.rlim_cur = request->limits[i].soft, .rlim_max = request->limits[i].hard};
    if (setrlimit(request->limits[i].resource, &limit) < 0) return CLINUX_SPAWN_LIMITS;
  }
  if (request->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return CLINUX_SPAWN_LIMITS;
  if (request->file_mode_mask >= 0) umask((mode_t)request->file_mode_mask);
  if (request->no_capabilities && forbid_capabilities() < 0) return CLINUX_SPAWN_CAPABILITIES;
  if (request->set_credentials) {
    if (syscall(SYS_setgroups, request->group_count, request->groups) < 0) return CLINUX_SPAWN_GROUPS;
    if (syscall(SYS_setresgid, request->gid, request->gid, request->gid) < 0) return CLINUX_SPAWN_GID;
    if (syscall(SYS_setresuid, request->uid, request->uid, request->uid) < 0) return CLINUX_SPAWN_UID;
  }
  if (request->no_capabilities && clear_capabilities() < 0) return CLINUX_SPAWN_CAPABILITIES;
  if (request->directory && chdir(request->directory) < 0) return CLINUX_SPAWN_DIRECTORY;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execve(request->path, request->argv, request->envp);
  return CLINUX_SPAWN_EXEC;
}

struct child {
  const struct clinux_spawn_request *request;
  volatile struct clinux_spawn_failure reported;
};

static int run_child(void *argument) {
  struct child *child = argument;
  child->reported.step = become_program(child->request, &child->reported.detail);
  child->reported.error = errno;
  _exit(127);
}

// As in posix_spawn(3), the child shares the memory and has a stack of its own; the parent waits until the child
// executes a program or ends.
static pid_t start(struct child *child) {
  char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return -1;
  int flags = CLONE_VM | CLONE_VFORK | SIGCHLD | (int)child->request->namespaces;
  pid_t pid = clone(run_child, stack + STACK_BYTES, flags, child);
  int saved = errno;
  munmap(stack, STACK_BYTES);
  errno = saved;
  return pid;
}

pid_t clinux_spawn(const struct clinux_spawn_request *request, struct clinux_spawn_failure *failure) {
  if (request->descriptor_count > MAXIMUM_DESCRIPTORS) {
    failure->step = CLINUX_SPAWN_DESCRIPTORS;
    failure->error = EINVAL;
    return -1;
  }
  struct child child = {.request = request};
  sigset_t all, saved;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &saved);
  pid_t pid = start(&child);
  int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &saved, NULL);
  if (pid < 0) {
    failure->step = CLINUX_SPAWN_FORK;
    failure->error = fork_error;
    return -1;
  }
  if (child.reported.step == 0) return pid;
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
  }
  failure->step = child.reported.step;
  failure->error = child.reported.error;
  failure->detail = child.reported.detail;
  return -1;
}
