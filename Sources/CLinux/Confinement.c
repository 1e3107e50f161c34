#include "CLinuxConfinement.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// --- filter ----------------------------------------------------------------------------------------------------------

#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, char[96])

enum { MAXIMUM_INSTRUCTIONS = 192 };

struct program {
  struct sock_filter code[MAXIMUM_INSTRUCTIONS];
  unsigned short count;
};

// What the Swift runtime and the C library need, and what both profiles work with. Threads are let through below.
static const unsigned short allowed[] = {
  SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_close, SYS_fstat,
  SYS_newfstatat, SYS_fcntl, SYS_poll, SYS_ppoll, SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise, SYS_mlock, SYS_futex,
  SYS_set_robust_list, SYS_rseq, SYS_sigaltstack, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
  SYS_restart_syscall, SYS_nanosleep, SYS_clock_nanosleep, SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday,
  SYS_time, SYS_getrandom, SYS_sched_yield, SYS_sched_getaffinity, SYS_getpid, SYS_gettid, SYS_exit, SYS_exit_group,
  SYS_uname, SYS_getrlimit, SYS_prlimit64, SYS_sysinfo, SYS_getcpu,
};

static const unsigned short allowed_to_pager[] = {
  SYS_accept4, SYS_recvmsg, SYS_sendmsg, SYS_getsockopt, SYS_pidfd_open, SYS_pidfd_send_signal,
};

// There are no files: opening one fails but is not fatal, since the C library tries some (a time zone, the processors).
static const unsigned short absent[] = {
  SYS_open, SYS_openat, SYS_access, SYS_faccessat, SYS_faccessat2, SYS_readlink, SYS_readlinkat, SYS_stat, SYS_statx,
  SYS_unlink,
};

static void add(struct program *program, uint16_t code, uint32_t k, uint8_t yes, uint8_t no) {
  // One too many is found at the end.
  if (program->count < MAXIMUM_INSTRUCTIONS)
    program->code[program->count] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
  program->count++;
}

static void load(struct program *program, size_t offset) {
  add(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void load_number(struct program *program) { load(program, offsetof(struct seccomp_data, nr)); }

// The low half of an argument: all that is compared here are ints.
static void load_argument(struct program *program, int index) {
  load(program, offsetof(struct seccomp_data, args) + (size_t)index * 8);
}

static void answer(struct program *program, uint32_t action) { add(program, BPF_RET | BPF_K, action, 0, 0); }

static void answer_if(struct program *program, uint32_t value, uint32_t action) {
  add(program, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
  answer(program, action);
}

static void answer_each(struct program *program, const unsigned short *numbers, size_t count, uint32_t action) {
  for (size_t i = 0; i < count; i++) answer_if(program, numbers[i], action);
}

// The call is allowed when its argument is one of `values`, and kills otherwise.
static void allow_with(
  struct program *program, uint32_t number, int argument, const uint32_t *values, uint8_t count) {
  add(program, BPF_JMP | BPF_JEQ | BPF_K, number, 0, (uint8_t)(2 * count + 2));
  load_argument(program, argument);
  for (uint8_t i = 0; i < count; i++) answer_if(program, values[i], SECCOMP_RET_ALLOW);
  answer(program, SECCOMP_RET_KILL_PROCESS);
}

// The call is allowed when its argument has all of `set` and none of `clear`.
static void allow_with_bits(struct program *program, uint32_t number, int argument, uint32_t set, uint32_t clear) {
  add(program, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 5);
  load_argument(program, argument);
  add(program, BPF_ALU | BPF_AND | BPF_K, set | clear, 0, 0);
  add(program, BPF_JMP | BPF_JEQ | BPF_K, set, 0, 1);
  answer(program, SECCOMP_RET_ALLOW);
  answer(program, SECCOMP_RET_KILL_PROCESS);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void write_filter(struct program *program, const struct clinux_confinement *confinement) {
  static const uint32_t pager_requests[] = {
    (uint32_t)UFFDIO_COPY, (uint32_t)UFFDIO_ZEROPAGE, (uint32_t)UFFDIO_WAKE, (uint32_t)UFFDIO_WRITEPROTECT};
  static const uint32_t saver_requests[] = {(uint32_t)PAGEMAP_SCAN_REQUEST};
  static const uint32_t names[] = {PR_SET_NAME};
  const uint32_t subject[] = {(uint32_t)confinement->subject};
  load(program, offsetof(struct seccomp_data, arch));
  add(program, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  answer(program, SECCOMP_RET_KILL_PROCESS);
  load_number(program);
  answer_each(program, allowed, COUNT(allowed), SECCOMP_RET_ALLOW);
  answer_each(program, absent, COUNT(absent), SECCOMP_RET_ERRNO | ENOENT);
  // Its flags are out of a filter's sight; the C library takes clone(2) instead.
  answer_if(program, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
  if (confinement->profile == CLINUX_CONFINED_PAGER) {
    answer_each(program, allowed_to_pager, COUNT(allowed_to_pager), SECCOMP_RET_ALLOW);
    allow_with(program, SYS_ioctl, 1, pager_requests, COUNT(pager_requests));
  } else {
    allow_with(program, SYS_ioctl, 1, saver_requests, COUNT(saver_requests));
  }
  // A test that does not match leaves the number loaded.
  if (confinement->profile == CLINUX_CONFINED_SAVER) allow_with(program, SYS_process_vm_readv, 0, subject, 1);
  allow_with(program, SYS_prctl, 0, names, COUNT(names));
  allow_with_bits(program, SYS_clone, 0, CLONE_VM | CLONE_THREAD, 0);
  allow_with_bits(program, SYS_mmap, 2, 0, PROT_EXEC);
  allow_with_bits(program, SYS_mprotect, 2, 0, PROT_EXEC);
  answer(program, SECCOMP_RET_KILL_PROCESS);
}

static int install_filter(const struct clinux_confinement *confinement) {
  struct program program = {.count = 0};
  write_filter(&program, confinement);
  if (program.count > MAXIMUM_INSTRUCTIONS) {
    errno = E2BIG;
    return -1;
  }
  struct sock_fprog description = {.len = program.count, .filter = program.code};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &description);
}

// --- privileges ------------------------------------------------------------------------------------------------------

static int set_capabilities(uint64_t set) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
    {.effective = (uint32_t)set, .permitted = (uint32_t)set},
    {.effective = (uint32_t)(set >> 32), .permitted = (uint32_t)(set >> 32)}};
  return (int)syscall(SYS_capset, &header, data);
}

static int empty_bounding_set(void) {
  for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return -1;
  return 0;
}

static int change_user(uid_t uid, gid_t gid) {
  if (syscall(SYS_setgroups, 0, NULL) < 0) return -1;
  if (syscall(SYS_setresgid, gid, gid, gid) < 0) return -1;
  return (int)syscall(SYS_setresuid, uid, uid, uid);
}

// `left` is all that stays; secure bits need CAP_SETPCAP, so they are locked on the way.
static int leave_capabilities(uint64_t left) {
  const unsigned long locked = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
    SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
  if (set_capabilities(left | UINT64_C(1) << CAP_SETPCAP) < 0) return -1;
  if (prctl(PR_SET_SECUREBITS, locked, 0, 0, 0) < 0) return -1;
  return set_capabilities(left);
}

int clinux_hide_memory(void) {
  struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) < 0) return -errno;
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

static int failed(int *step, int value, int error) {
  *step = value;
  return error;
}

int clinux_confine(const struct clinux_confinement *confinement, int *step) {
  const uint64_t left = confinement->profile == CLINUX_CONFINED_SAVER ? UINT64_C(1) << CAP_SYS_PTRACE : 0;
  umask(077);
  // Refused to a process with several threads.
  if (setns(confinement->mount_namespace, CLONE_NEWNS) < 0) return failed(step, CLINUX_CONFINE_NAMESPACE, -errno);
  if (empty_bounding_set() < 0) return failed(step, CLINUX_CONFINE_CAPABILITIES, -errno);
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return failed(step, CLINUX_CONFINE_CAPABILITIES, -errno);
  if (change_user(confinement->uid, confinement->gid) < 0) return failed(step, CLINUX_CONFINE_CREDENTIALS, -errno);
  if (leave_capabilities(left) < 0) return failed(step, CLINUX_CONFINE_CAPABILITIES, -errno);
  // After the change of user, which sets the flag anew.
  int hidden = clinux_hide_memory();
  if (hidden < 0) return failed(step, CLINUX_CONFINE_LIMITS, hidden);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return failed(step, CLINUX_CONFINE_FILTER, -errno);
  return install_filter(confinement) < 0 ? failed(step, CLINUX_CONFINE_FILTER, -errno) : 0;
}
