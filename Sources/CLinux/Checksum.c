#include "CLinuxChecksum.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#endif

// The reversed Castagnoli polynomial.
#define POLYNOMIAL UINT32_C(0x82F63B78)

// A page is three stripes and sixteen bytes: one checksum instruction has a latency of three cycles but a throughput of
// one, so three independent stripes take the time of one. Tables that compute the effect of following zero bytes then
// join their checksums.
#define STRIPE_BYTES 1360

static uint32_t byte_tables[8][256];   // slicing by eight
static uint32_t shift_tables[4][256];  // effect of STRIPE_BYTES zero bytes on each byte of a state
static int has_instruction;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static uint32_t update_portable(uint32_t state, const unsigned char *bytes, size_t count) {
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    word = le64toh(word) ^ state;
    state = byte_tables[7][word & 255] ^ byte_tables[6][word >> 8 & 255] ^ byte_tables[5][word >> 16 & 255] ^
            byte_tables[4][word >> 24 & 255] ^ byte_tables[3][word >> 32 & 255] ^ byte_tables[2][word >> 40 & 255] ^
            byte_tables[1][word >> 48 & 255] ^ byte_tables[0][word >> 56];
    bytes += 8;
    count -= 8;
  }
  while (count-- > 0) state = byte_tables[0][(state ^ *bytes++) & 255] ^ state >> 8;
  return state;
}

static void prepare_byte_tables(void) {
  for (uint32_t value = 0; value < 256; value++) {
    uint32_t state = value;
    for (int bit = 0; bit < 8; bit++) state = state & 1 ? state >> 1 ^ POLYNOMIAL : state >> 1;
    byte_tables[0][value] = state;
  }
  for (int table = 1; table < 8; table++)
    for (int value = 0; value < 256; value++) {
      uint32_t previous = byte_tables[table - 1][value];
      byte_tables[table][value] = byte_tables[0][previous & 255] ^ previous >> 8;
    }
}

// The checksum is linear: the effect on a state is the exclusive or of the effects on its bits.
static void prepare_shift_tables(void) {
  static const unsigned char zeros[STRIPE_BYTES];
  for (int position = 0; position < 4; position++)
    for (int bit = 0; bit < 8; bit++) {
      uint32_t effect = update_portable(UINT32_C(1) << (8 * position + bit), zeros, sizeof zeros);
      for (int value = 0; value < 256; value++)
        if (value >> bit & 1) shift_tables[position][value] ^= effect;
    }
}

static void prepare(void) {
  prepare_byte_tables();
  prepare_shift_tables();
#if defined(__x86_64__)
  unsigned a, b, c, d;
  has_instruction = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2) != 0;
#endif
}

#if defined(__x86_64__)
static inline uint32_t after_stripe(uint32_t state) {
  return shift_tables[0][state & 255] ^ shift_tables[1][state >> 8 & 255] ^ shift_tables[2][state >> 16 & 255] ^
         shift_tables[3][state >> 24];
}

static inline uint64_t word_at(const unsigned char *bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

__attribute__((target("sse4.2"))) static uint32_t update_instruction(
    uint32_t state, const unsigned char *bytes, size_t count) {
  uint64_t first = state;
  while (count >= 3 * STRIPE_BYTES) {
    uint64_t second = 0, third = 0;
    for (const unsigned char *end = bytes + STRIPE_BYTES; bytes < end; bytes += 8) {
      first = _mm_crc32_u64(first, word_at(bytes));
      second = _mm_crc32_u64(second, word_at(bytes + STRIPE_BYTES));
      third = _mm_crc32_u64(third, word_at(bytes + 2 * STRIPE_BYTES));
    }
    first = after_stripe(after_stripe((uint32_t)first) ^ (uint32_t)second) ^ (uint32_t)third;
    bytes += 2 * STRIPE_BYTES;
    count -= 3 * STRIPE_BYTES;
  }
  for (; count >= 8; bytes += 8, count -= 8) first = _mm_crc32_u64(first, word_at(bytes));
  uint32_t last = (uint32_t)first;
  while (count-- > 0) last = _mm_crc32_u8(last, *bytes++);
  return last;
}
#endif

static uint32_t update(uint32_t state, const unsigned char *bytes, size_t count) {
#if defined(__x86_64__)
  if (has_instruction) return update_instruction(state, bytes, count);
#endif
  return update_portable(state, bytes, count);
}

uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count) {
  pthread_once(&prepared, prepare);
  return ~update(~crc, bytes, count);
}

uint32_t clinux_crc32c_portable(uint32_t crc, const void *bytes, size_t count) {
  pthread_once(&prepared, prepare);
  return ~update_portable(~crc, bytes, count);
}

void clinux_crc32c_blocks(const void *blocks, size_t block_bytes, size_t count, uint32_t *checksums) {
  const unsigned char *block = blocks;
  for (size_t index = 0; index < count; index++, block += block_bytes)
    checksums[index] = clinux_crc32c(0, block, block_bytes);
}

size_t clinux_crc32c_first_mismatch(const void *blocks, size_t block_bytes, size_t count, const uint32_t *checksums) {
  const unsigned char *block = blocks;
  for (size_t index = 0; index < count; index++, block += block_bytes)
    if (clinux_crc32c(0, block, block_bytes) != le32toh(checksums[index])) return index;
  return count;
}

// A sequence that equals itself shifted by sixteen bytes repeats its first sixteen bytes; memcmp(3) uses the widest
// registers of the processor.
int clinux_is_zero(const void *bytes, size_t count) {
  static const unsigned char zeros[16];
  return memcmp(bytes, zeros, sizeof zeros) == 0 && memcmp(bytes, (const unsigned char *)bytes + 16, count - 16) == 0;
}
