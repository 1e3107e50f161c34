#pragma once

#include "CLinuxMounts.h"

// Performs the steps in order; makes only system calls, so that the child half of a spawn may use it. Returns the index
// of the step that failed, with errno, or `count`.
size_t martlet_mount_all(const struct clinux_mount_step *steps, size_t count);
