// Imitates a VMM without a virtual machine: maps its memory as QEMU does, and executes commands from standard input on
// its pages. Run with the library of Sources/QEMUPagerShim preloaded; every response is one line.
//
// usage: pager-machine PLACEHOLDER BYTES
//
//   where               prints the address of the memory
//   sum START COUNT     reads pages in order and prints a checksum of their content
//   race START COUNT N  reads the same pages in N threads in different orders: the checksum if all agree, else "torn"
//   write START COUNT SEED   fills pages with numbers that follow from page and seed
//   zero START COUNT    writes zeros
//   remove START COUNT  removes pages (madvise(2), MADV_DONTNEED)
//   churn START COUNT N removes pages N times while another thread reads them: "ok" if each read saw old content or
//                       zeros
//   play START COUNT SEED   touches COUNT pages in short runs in START..<end of the memory, in order when SEED is 0,
//                       and prints nanoseconds
//   environment         prints the remaining variables of the library
//   descriptors         prints the number of open descriptors
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_WORDS = 512, MAXIMUM_THREADS = 16 };

static uint64_t *memory;
static size_t page_count;

static uint64_t word_of(size_t page, size_t index, uint64_t seed) {
  return (page * PAGE_WORDS + index + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ seed * UINT64_C(0xD6E8FEB86659FD93);
}

static uint64_t sum(size_t start, size_t count) {
  uint64_t result = 0;
  const uint64_t *words = memory + start * PAGE_WORDS;
  for (size_t i = 0; i < count * PAGE_WORDS; i++) result = result * UINT64_C(1099511628211) + words[i] + 1;
  return result;
}

static void fill(size_t start, size_t count, uint64_t seed) {
  for (size_t page = start; page < start + count; page++)
    for (size_t i = 0; i < PAGE_WORDS; i++) memory[page * PAGE_WORDS + i] = word_of(page, i, seed);
}

struct reader {
  pthread_t thread;
  size_t start, count, stride;
  uint64_t result;
};

// Touches all pages in an order of its own (the stride is odd, the count a power of two), then reads them.
static void *read_in_own_order(void *argument) {
  struct reader *reader = argument;
  volatile uint64_t seen = 0;
  for (size_t i = 0; i < reader->count; i++)
    seen += memory[(reader->start + i * reader->stride % reader->count) * PAGE_WORDS];
  reader->result = sum(reader->start, reader->count);
  return NULL;
}

static void race(size_t start, size_t count, size_t threads) {
  struct reader readers[MAXIMUM_THREADS];
  if (threads == 0 || threads > MAXIMUM_THREADS) exit(64);
  for (size_t i = 0; i < threads; i++) {
    readers[i] = (struct reader){.start = start, .count = count, .stride = 2 * i * 977 + 1};
    if (pthread_create(&readers[i].thread, NULL, read_in_own_order, &readers[i]) != 0) exit(71);
  }
  int agree = 1;
  for (size_t i = 0; i < threads; i++) {
    pthread_join(readers[i].thread, NULL);
    agree = agree && readers[i].result == readers[0].result;
  }
  if (agree) printf("%llu\n", (unsigned long long)readers[0].result);
  else printf("torn\n");
}

static size_t churn_start, churn_count;
static volatile int churn_stops, churn_failed;

static void *read_while_removed(void *argument) {
  uint64_t *old = argument;
  while (!churn_stops)
    for (size_t page = 0; page < churn_count; page++) {
      uint64_t word = __atomic_load_n(&memory[(churn_start + page) * PAGE_WORDS + 7], __ATOMIC_RELAXED);
      if (word != 0 && word != old[page]) churn_failed = 1;
    }
  return NULL;
}

static void churn(size_t start, size_t count, size_t times) {
  uint64_t *old = calloc(count, sizeof *old);
  if (!old) exit(71);
  for (size_t page = 0; page < count; page++) old[page] = memory[(start + page) * PAGE_WORDS + 7];
  churn_start = start;
  churn_count = count;
  churn_stops = churn_failed = 0;
  pthread_t thread;
  if (pthread_create(&thread, NULL, read_while_removed, old) != 0) exit(71);
  int zero = 1;
  for (size_t i = 0; i < times; i++) {
    if (madvise(memory + start * PAGE_WORDS, count * PAGE_WORDS * 8, MADV_DONTNEED) < 0) exit(71);
    zero = zero && memory[start * PAGE_WORDS] == 0;
  }
  churn_stops = 1;
  pthread_join(thread, NULL);
  free(old);
  printf(churn_failed ? "foreign content\n" : zero ? "ok\n" : "old content\n");
}

static uint64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// The same seed gives the same trace: runs of 1 to 32 pages at random places, as programs touch a heap.
static void play(size_t start, size_t count, uint64_t seed) {
  uint64_t begin = nanoseconds(), state = seed;
  volatile uint64_t seen = 0;
  size_t page = start;
  for (size_t touched = 0, left = 0; touched < count; touched++, left--, page++) {
    if (left == 0 && seed != 0) {
      state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
      left = 1 + (state >> 59);
      page = start + (state >> 20) % (page_count - start);
    }
    if (page >= page_count) page = start;
    seen += memory[page * PAGE_WORDS];
  }
  printf("%llu\n", (unsigned long long)(nanoseconds() - begin));
}

static void count_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  int count = 0;
  while (directory && readdir(directory)) count++;
  closedir(directory);
  printf("%d\n", count - 3);  // without ., .. and the directory itself
}

static void show_environment(void) {
  static const char *const names[] = {
    "MARTLET_MEMORY_FILE", "MARTLET_MEMORY_MODE", "MARTLET_PAGER_SOCKET", "MARTLET_MEMORY_REGIONS", "LD_PRELOAD"};
  for (size_t i = 0; i < 5; i++) printf("%s ", getenv(names[i]) ? names[i] : "-");
  printf("\n");
}

static void obey(const char *line) {
  char verb[32];
  unsigned long long start = 0, count = 0, extra = 0;
  int fields = sscanf(line, "%31s %llu %llu %llu", verb, &start, &count, &extra);
  if (fields < 1 || start > page_count || count > page_count - start) exit(64);
  void *bytes = memory + start * PAGE_WORDS;
  if (strcmp(verb, "where") == 0) printf("%llu\n", (unsigned long long)(uintptr_t)memory);
  else if (strcmp(verb, "sum") == 0) printf("%llu\n", (unsigned long long)sum(start, count));
  else if (strcmp(verb, "race") == 0) race(start, count, extra);
  else if (strcmp(verb, "write") == 0) fill(start, count, extra), printf("ok\n");
  else if (strcmp(verb, "zero") == 0) memset(bytes, 0, count * PAGE_WORDS * 8), printf("ok\n");
  else if (strcmp(verb, "remove") == 0)
      printf(madvise(bytes, count * PAGE_WORDS * 8, MADV_DONTNEED) == 0 ? "ok\n" : "failed\n");
  else if (strcmp(verb, "churn") == 0) churn(start, count, extra);
  else if (strcmp(verb, "play") == 0) play(start, count, extra);
  else if (strcmp(verb, "environment") == 0) show_environment();
  else if (strcmp(verb, "descriptors") == 0) count_descriptors();
  else exit(64);
}

int main(int count, char **arguments) {
  if (count != 3) return 64;
  size_t bytes = strtoull(arguments[2], NULL, 10);
  page_count = bytes / (PAGE_WORDS * 8);
  alarm(120);  // ends the process if it hangs
  int placeholder = open(arguments[1], O_RDWR | O_CLOEXEC);
  if (placeholder < 0) return 66;
  // As QEMU does: the address range first, then the file in its middle.
  size_t guard = 1 << 21;
  char *reserved = mmap(NULL, bytes + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return 71;
  char *target = (char *)(((uintptr_t)reserved + guard - 1) & ~(guard - 1));
  memory = mmap(target, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, placeholder, 0);
  if (memory == MAP_FAILED) return 71;
  close(placeholder);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("ready\n");
  char line[256];
  while (fgets(line, sizeof line, stdin)) obey(line);
  return 0;
}
