// Linux interfaces that Swift cannot import: system calls without a glibc wrapper, ioctl numbers, and the function that
// must be written in C because it runs between vfork(2) and execve(2).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/types.h>

#include "CLinuxChecksum.h"
#include "CLinuxConfinement.h"
#include "CLinuxFiles.h"
#include "CLinuxGuest.h"
#include "CLinuxMounts.h"
#include "CLinuxUserFault.h"

// --- spawning ----------------------------------------

// Steps at which a spawn can fail, reported in clinux_spawn_failure.step.
enum {
  CLINUX_SPAWN_FORK = 1,
  CLINUX_SPAWN_CGROUP,
  CLINUX_SPAWN_NAMESPACE,
  CLINUX_SPAWN_SESSION,
  CLINUX_SPAWN_DESCRIPTORS,
  CLINUX_SPAWN_TERMINAL,
  CLINUX_SPAWN_LIMITS,
  CLINUX_SPAWN_GROUPS,
  CLINUX_SPAWN_GID,
  CLINUX_SPAWN_UID,
  CLINUX_SPAWN_DIRECTORY,
  CLINUX_SPAWN_EXEC,
  CLINUX_SPAWN_TAP,
  CLINUX_SPAWN_MOUNT,
  CLINUX_SPAWN_CAPABILITIES,
};

struct clinux_spawn_limit {
  int resource;  // RLIMIT_*
  uint64_t soft;
  uint64_t hard;
};

struct clinux_spawn_request {
  const char *path;         // absolute path of the program
  char *const *argv;        // NULL-terminated
  char *const *envp;        // NULL-terminated
  const char *directory;    // working directory, or NULL for the caller's
  const int *sources;       // sources[i] becomes targets[i] in the child; every other descriptor is closed by exec
  const int *targets;
  size_t descriptor_count;
  int new_session;          // setsid(2)
  int controlling_terminal; // descriptor number in the child that becomes the controlling terminal, or -1
  int set_credentials;      // whether uid, gid and groups apply
  uid_t uid;
  gid_t gid;
  const gid_t *groups;
  size_t group_count;
  int network_namespace;    // descriptor of a network namespace to enter, or -1
  const int *cgroup_procs;  // descriptors of cgroup.procs files, open for writing
  size_t cgroup_count;
  const struct clinux_spawn_limit *limits;
  size_t limit_count;
  int no_new_privileges;     // prctl(2), PR_SET_NO_NEW_PRIVS
  const char *oom_score_adj; // text for /proc/self/oom_score_adj, or NULL
  int file_mode_mask;        // umask(2), or -1
  unsigned long namespaces;  // CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS: new ones for the child
  int mount_namespace;       // descriptor of a mount namespace to enter a copy of, or -1
  const struct clinux_mount_step *mount_steps; // performed in the copy, as root
  size_t mount_step_count;
  const char *tap_name;      // TAP in the network namespace to open, or NULL
  int tap_target;            // its descriptor in the child
  int no_capabilities;       // empty sets of capabilities, the bounding set too, and locked secure bits
};

struct clinux_spawn_failure {
  int step;
  int error;
  int detail; // of CLINUX_SPAWN_MOUNT: index of the step
};

// Starts a program in a new process with default signal dispositions and an empty signal mask. Returns the pid, or -1
// with *failure filled; a failed child is already reaped.
pid_t clinux_spawn(const struct clinux_spawn_request *request, struct clinux_spawn_failure *failure);

// --- system calls and ioctls ----------------------------------------

int clinux_pidfd_open(pid_t pid);
int clinux_pidfd_send_signal(int pidfd, int signal);
// waitid(2) on a pidfd. Returns 1 with *code and *status when the child has ended (and reaps it), 0 when it still runs,
// -1 on error.
int clinux_pidfd_wait(int pidfd, int blocks, int *code, int *status);
int clinux_setns(int fd, int type);
int clinux_unshare(int flags);
// Opens /dev/net/tun and attaches it to the existing or new TAP of this name. Returns the descriptor or -1.
int clinux_open_tap(const char *name, int vnet_header);
// pipe2(2)
int clinux_pipe(int ends[2], int flags);
int clinux_open(const char *path, int flags, unsigned mode);
long clinux_clock_ticks_per_second(void);
// Reads the processor's time stamp counter and the monotonic clock together.
void clinux_read_tsc(uint64_t *ticks, uint64_t *nanoseconds);
// Names the calling thread (at most 15 bytes).
void clinux_name_thread(const char *name);
int clinux_set_window_size(int fd, unsigned short columns, unsigned short rows);

extern const int clinux_clone_newnet;
extern const unsigned long clinux_clone_newpid;
extern const unsigned long clinux_clone_newipc;
extern const unsigned long clinux_clone_newuts;
