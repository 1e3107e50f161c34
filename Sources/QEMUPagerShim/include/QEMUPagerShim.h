// A library that is preloaded into QEMU and gives it Firecracker's userfaultfd hand-shake. It exports mmap and mmap64, nothing else.
#pragma once
