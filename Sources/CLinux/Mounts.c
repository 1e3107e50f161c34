#include "Mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Where the root is put together. Nothing that is bound into it lies there.
static const char WORKSHOP[] = "/proc";

static int make_file(const struct clinux_mount_step *step) {
  int fd = open(step->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, step->mode);
  return fd < 0 ? -1 : close(fd);
}

// A bind mount takes its flags at a second call only (mount(2)).
static int protect(const struct clinux_mount_step *step) {
  return mount(NULL, step->path, NULL, MS_REMOUNT | MS_BIND | step->flags, NULL);
}

static int attach(const struct clinux_mount_step *step) {
  if (syscall(SYS_move_mount, step->descriptor, "", AT_FDCWD, step->path, MOVE_MOUNT_F_EMPTY_PATH) < 0) return -1;
  // What is mounted on the original later does not come here.
  if (mount(NULL, step->path, NULL, MS_PRIVATE, NULL) < 0) return -1;
  return protect(step);
}

static int mount_proc(const struct clinux_mount_step *step) {
  if (mount("proc", step->path, "proc", step->flags, "subset=pid,hidepid=invisible") == 0) return 0;
  // Linux before 5.8 has neither option; the pid namespace bounds what is seen there too.
  return errno == EINVAL ? mount("proc", step->path, "proc", step->flags, "hidepid=2") : -1;
}

static int make_device(const struct clinux_mount_step *step) {
  struct stat status;
  if (stat(step->source, &status) < 0) return -1;
  if (mknod(step->path, S_IFCHR | 0666, status.st_rdev) == 0) return 0;
  if (errno != EPERM) return -1;
  if (make_file(step) < 0 || mount(step->source, step->path, NULL, MS_BIND, NULL) < 0) return -1;
  return protect(step);
}

static int perform(const struct clinux_mount_step *step) {
  switch (step->kind) {
  case CLINUX_MOUNT_DIRECTORY: return mkdir(step->path, step->mode) == 0 || errno == EEXIST ? 0 : -1;
  case CLINUX_MOUNT_FILE: return make_file(step);
  case CLINUX_MOUNT_LINK: return symlink(step->source, step->path);
  case CLINUX_MOUNT_TMPFS: return mount("tmpfs", step->path, "tmpfs", step->flags, step->source);
  case CLINUX_MOUNT_PROC: return mount_proc(step);
  case CLINUX_MOUNT_BIND: return mount(step->source, step->path, NULL, MS_BIND, NULL) < 0 ? -1 : protect(step);
  case CLINUX_MOUNT_ATTACH: return attach(step);
  case CLINUX_MOUNT_PROTECT: return protect(step);
  case CLINUX_MOUNT_DEVICE: return make_device(step);
  default: errno = EINVAL; return -1;
  }
}

size_t martlet_mount_all(const struct clinux_mount_step *steps, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (perform(&steps[i]) < 0) return i;
  return count;
}

static int fill_root(const struct clinux_mount_step *steps, size_t count, int *failed) {
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -errno;
  if (mount("martlet", WORKSHOP, "tmpfs", MS_NOSUID, "mode=755,size=256k,nr_inodes=1024") < 0) return -errno;
  if (chdir(WORKSHOP) < 0) return -errno;
  size_t done = martlet_mount_all(steps, count);
  if (done < count) {
    *failed = (int)done;
    return -errno;
  }
  // The old root lies under the new one then, and goes. Source: pivot_root(2), "pivot_root(".", ".")"
  if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) return -errno;
  return 0;
}

struct making {
  const struct clinux_mount_step *steps;
  size_t count;
  int failed;
  int result;
};

static int make_here(struct making *making) {
  if (unshare(CLONE_NEWNS) < 0) return -errno;
  // Modes are what the steps say. The thread has had a mask of its own since it left the namespace.
  umask(0);
  int namespace = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (namespace < 0) return -errno;
  int result = fill_root(making->steps, making->count, &making->failed);
  if (result == 0) return namespace;
  close(namespace);
  return result;
}

static void *run_thread(void *argument) {
  struct making *making = argument;
  making->result = make_here(making);
  return NULL;
}

// On a thread of its own, which ends in the namespace: the others stay where they are.
int clinux_make_mount_namespace(const struct clinux_mount_step *steps, size_t count, int *failed) {
  struct making making = {.steps = steps, .count = count, .failed = -1};
  pthread_t thread;
  int error = pthread_create(&thread, NULL, run_thread, &making);
  if (error == 0) error = pthread_join(thread, NULL);
  *failed = making.failed;
  return error != 0 ? -error : making.result;
}

int clinux_detach_mount(const char *path) {
  int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  return fd < 0 ? -errno : fd;
}
