// Giving up privileges in a running program. Source: capabilities(7), setns(2), prctl(2), seccomp(2).
#pragma once

#include <sys/types.h>

enum {
  CLINUX_CONFINED_PAGER = 1, // serves page faults over descriptors that it has
  CLINUX_CONFINED_SAVER,     // reads the memory of `subject` with process_vm_readv(2)
};

struct clinux_confinement {
  int mount_namespace; // to enter; nothing of the caller's is visible from then on
  uid_t uid;
  gid_t gid;
  int profile;         // which system calls stay allowed
  pid_t subject;       // of CLINUX_CONFINED_SAVER
};

// Steps at which it can fail.
enum {
  CLINUX_CONFINE_LIMITS = 1,
  CLINUX_CONFINE_NAMESPACE,
  CLINUX_CONFINE_CAPABILITIES,
  CLINUX_CONFINE_CREDENTIALS,
  CLINUX_CONFINE_FILTER,
};

// For a process with one thread that is root. Afterwards it has no capability (a saver has only CAP_SYS_PTRACE), can
// get none, leaves no core, is not dumpable, and any system call outside its profile kills it. Returns 0, or a negative
// errno with the step in *step; the caller has to end then.
int clinux_confine(const struct clinux_confinement *confinement, int *step);

// No core file, and no access for other processes of the same user: PR_SET_DUMPABLE 0, RLIMIT_CORE 0.
int clinux_hide_memory(void);
