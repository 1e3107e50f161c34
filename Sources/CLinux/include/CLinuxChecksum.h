// CRC-32C (Castagnoli) and tests of whole pages at the speed of memory: they run while a guest is stopped. No logic.
#pragma once

#include <stddef.h>
#include <stdint.h>

// The checksum of `count` bytes; `crc` is that of the bytes before them, 0 at the start. Source: RFC 3720, appendix
// B.4.
uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count);

// The same computation without the checksum instruction, for processors that lack it.
uint32_t clinux_crc32c_portable(uint32_t crc, const void *bytes, size_t count);

// checksums[i] becomes the checksum of the i-th block of `block_bytes`.
void clinux_crc32c_blocks(const void *blocks, size_t block_bytes, size_t count, uint32_t *checksums);

// Index of the first block whose checksum is not the one in the (little-endian) table; `count` when all are right.
size_t clinux_crc32c_first_mismatch(const void *blocks, size_t block_bytes, size_t count, const uint32_t *checksums);

// Whether all bytes are zero; `count` is at least 16.
int clinux_is_zero(const void *bytes, size_t count);
