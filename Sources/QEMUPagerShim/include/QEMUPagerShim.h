// A library that is preloaded into QEMU and gives the guest memory of an unmodified QEMU Firecracker's userfaultfd hand-shake.
// It exports mmap and mmap64, nothing else; without MARTLET_MEMORY_FILE it passes every call on.
//
// QEMU is started with `memory-backend-file,mem-path=PLACEHOLDER,share=on` in a directory of its own (the run directory) and with
// these variables, which are removed from the environment, as is LD_PRELOAD, before QEMU's main begins:
//
//   MARTLET_MEMORY_FILE   path of the placeholder, a sparse file of the guest's memory size; it is never read or written
//   MARTLET_MEMORY_MODE   anonymous: private anonymous memory, for cold boots
//                         userfault: the same, its missing pages served by the pager
//   MARTLET_PAGER_SOCKET  userfault only: the pager's Unix socket, at most 107 bytes (relative to the working directory)
//
// When QEMU maps the placeholder for writing, the library maps anonymous memory in its place, writes `memory-regions.json`
// (0600) to the working directory and, in userfault mode, sends the same text with the userfaultfd to the pager. It does not wait
// for an answer: pages that are needed before the pager is ready are waited for, and a pager that cannot serve kills QEMU.
// QEMU goes on believing that its memory is shared, so that x-ignore-shared leaves it out of a snapshot.
//
//   [{"base_host_virt_addr":A,"size":S,"offset":0,"page_size":4096,"page_size_kib":4096}]
//
// Writes are tracked (UFFD_FEATURE_WP_ASYNC) and dropped pages reported (UFFD_FEATURE_EVENT_REMOVE) where the kernel can do so.
// The userfaultfd and the connection stay open for life: as long as one side holds the userfaultfd, a page that nobody serves
// stalls its reader instead of reading as zero. Whatever fails ends the process with status 1 and a line on standard error, so
// that QEMU never runs on wrong memory.
#pragma once
