// The child half runs on the parent's memory (vfork), so it makes only system calls. Credentials are set by raw system
// calls: glibc's wrappers would signal every thread of the parent (nptl(7), "C library/kernel differences").
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_SPARE_DESCRIPTOR = 64, MAXIMUM_DESCRIPTORS = 16 };

static int write_text(int fd, const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return write(fd, text, length) == (ssize_t)length ? 0 : -1;
}

// Two passes: sources are first moved out of the way, since one's target may be another's source.
static int map_descriptors(const struct clinux_spawn_request *request) {
  int spares[MAXIMUM_DESCRIPTORS];
  int highest = -1;
  for (size_t i = 0; i < request->descriptor_count; i++) {
    spares[i] = fcntl(request->sources[i], F_DUPFD_CLOEXEC, FIRST_SPARE_DESCRIPTOR);
    if (spares[i] < 0) return -1;
  }
  for (size_t i = 0; i < request->descriptor_count; i++) {
    if (dup2(spares[i], request->targets[i]) < 0) return -1;
    if (request->targets[i] > highest) highest = request->targets[i];
  }
  syscall(SYS_close_range, (unsigned)(highest + 1), ~0U, CLOSE_RANGE_CLOEXEC);
  return 0;
}

static void reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &action, NULL);
}

// Returns the failed step, or does not return.
static int become_program(const struct clinux_spawn_request *request) {
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
  if (request->new_session && setsid() < 0) return CLINUX_SPAWN_SESSION;
  if (map_descriptors(request) < 0) return CLINUX_SPAWN_DESCRIPTORS;
  if (request->controlling_terminal >= 0 && ioctl(request->controlling_terminal, TIOCSCTTY, 0) < 0)
    return CLINUX_SPAWN_TERMINAL;
  for (size_t i = 0; i < request->limit_count; i++) {
    struct rlimit limit = {.rlim_cur = request->limits[i].soft, .rlim_max = request->limits[i].hard};
    if (setrlimit(request->limits[i].resource, &limit) < 0) return CLINUX_SPAWN_LIMITS;
  }
  if (request->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return CLINUX_SPAWN_LIMITS;
  if (request->file_mode_mask >= 0) umask((mode_t)request->file_mode_mask);
  if (request->set_credentials) {
    if (syscall(SYS_setgroups, request->group_count, request->groups) < 0) return CLINUX_SPAWN_GROUPS;
    if (syscall(SYS_setresgid, request->gid, request->gid, request->gid) < 0) return CLINUX_SPAWN_GID;
    if (syscall(SYS_setresuid, request->uid, request->uid, request->uid) < 0) return CLINUX_SPAWN_UID;
  }
  if (request->directory && chdir(request->directory) < 0) return CLINUX_SPAWN_DIRECTORY;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execve(request->path, request->argv, request->envp);
  return CLINUX_SPAWN_EXEC;
}

pid_t clinux_spawn(const struct clinux_spawn_request *request, struct clinux_spawn_failure *failure) {
  volatile struct clinux_spawn_failure reported = {0, 0};
  if (request->descriptor_count > MAXIMUM_DESCRIPTORS) {
    failure->step = CLINUX_SPAWN_DESCRIPTORS;
    failure->error = EINVAL;
    return -1;
  }
  sigset_t all, saved;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &saved);
  pid_t pid = vfork();
  if (pid == 0) {
    reported.step = become_program(request);
    reported.error = errno;
    _exit(127);
  }
  int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &saved, NULL);
  if (pid < 0) {
    failure->step = CLINUX_SPAWN_FORK;
    failure->error = fork_error;
    return -1;
  }
  if (reported.step == 0) return pid;
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
  }
  failure->step = reported.step;
  failure->error = reported.error;
  return -1;
}
