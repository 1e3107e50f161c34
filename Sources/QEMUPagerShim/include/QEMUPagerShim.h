// A library that is preloaded into QEMU. It performs Firecracker's userfaultfd hand-shake for the guest memory of an
// unmodified QEMU. It exports only mmap and mmap64; without MARTLET_MEMORY_FILE it passes every call on.
//
// QEMU is started with `memory-backend-file,mem-path=PLACEHOLDER,share=on` in a directory of its own (the run
// directory) and with these variables, which are removed from the environment, like LD_PRELOAD, before QEMU's main
// starts:
//
//   MARTLET_MEMORY_FILE       path of the placeholder, a sparse file of the guest's memory size; never read or written
//   MARTLET_MEMORY_MODE       anonymous: private anonymous memory, for cold boots
//                             userfault: the same, its missing pages served by the pager
//   MARTLET_MEMORY_REGIONS    number of a descriptor, open for writing, that takes the description of the memory
//   MARTLET_USERFAULT_DEVICE  userfault only: number of a descriptor of /dev/userfaultfd
//   MARTLET_PAGER_SOCKET      userfault only: the pager's Unix socket, at most 107 bytes (relative to the working
//                             directory)
//
// When QEMU maps the placeholder for writing, the library maps anonymous memory in its place, writes its description to
// the descriptor of `memory-regions.json` and, in userfault mode, sends the same text with the userfaultfd to the pager
// and waits for its response of one byte. Both descriptors are closed then. Nothing of this needs a privilege, and the
// process is not dumpable from the start. QEMU treats its memory as shared, so that x-ignore-shared leaves it out of a
// snapshot.
//
//   [{"base_host_virt_addr":A,"size":S,"offset":0,"page_size":4096,"page_size_kib":4096}]
//
// Writes are tracked (UFFD_FEATURE_WP_ASYNC) and removed pages reported (UFFD_FEATURE_EVENT_REMOVE) where the kernel
// supports it. The userfaultfd and the connection stay open until the process ends: as long as one side holds the
// userfaultfd, a page without a pager stalls its reader instead of reading as zero. Every failure ends the process with
// status 1 and a line on standard error, so that QEMU never runs on wrong memory.
#pragma once
