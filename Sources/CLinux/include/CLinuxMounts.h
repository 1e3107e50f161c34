// Mount namespaces. Source: mount_namespaces(7), mount(2), open_tree(2), move_mount(2), pivot_root(2).
#pragma once

#include <stddef.h>
#include <sys/mount.h>
#include <sys/types.h>

enum {
  CLINUX_MOUNT_DIRECTORY = 1, // mkdir(2); one that exists is fine
  CLINUX_MOUNT_FILE,          // an empty file to mount on; one that exists is fine
  CLINUX_MOUNT_LINK,          // a symbolic link with the content `source`
  CLINUX_MOUNT_TMPFS,         // a file system in memory with the options `source`
  CLINUX_MOUNT_PROC,          // procfs of the process's pid namespace: its own process only
  CLINUX_MOUNT_BIND,          // bind mount of the file or directory `source`
  CLINUX_MOUNT_ATTACH,        // the detached mount `descriptor`
  CLINUX_MOUNT_PROTECT,       // the mount at `path` gets `flags`
  CLINUX_MOUNT_DEVICE,        // a node like `source` that every user may open; a bind mount where mknod is forbidden
};

struct clinux_mount_step {
  int kind;
  const char *path;
  const char *source;
  int descriptor;
  unsigned long flags; // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC
  mode_t mode;         // of CLINUX_MOUNT_DIRECTORY and CLINUX_MOUNT_FILE
};

// Makes a mount namespace whose root is a small file system in memory, filled by `steps` with relative paths; `source`
// of a bind mount is a path of the caller's namespace, which does not change. Returns a close-on-exec descriptor that
// keeps the namespace alive, or a negative errno with the index of the failed step in *failed (-1: none).
int clinux_make_mount_namespace(const struct clinux_mount_step *steps, size_t count, int *failed);

// A detached copy of the mount that `path` is on, with `path` as its root (open_tree(2)). Returns a close-on-exec
// descriptor or a negative errno; closing the descriptor removes the mount unless it was attached.
int clinux_detach_mount(const char *path);
