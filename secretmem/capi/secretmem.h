/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SECRETMEM_H
#define SECRETMEM_H

/* Made from src/lib.rs by `make header`; do not change it by hand. */

#include <stddef.h>
#include <stdint.h>

// A forked child that touches secret memory of its parent is killed by SIGSEGV. The default.
#define SECRETMEM_FORK_FAULT 0

// A forked child finds its parent's allocations zeroed.
#define SECRETMEM_FORK_WIPED 1

// A forked child has a secret copy of its own.
#define SECRETMEM_FORK_COPY 2

// Ordinary locked memory is used, and a line on standard error says so, where the kernel has no secret memory.
#define SECRETMEM_FALLBACK 256

// What is allocated at this moment.
struct secretmem_stats {
  // Live allocations.
  size_t live;
  // Bytes that these were asked for with.
  size_t live_bytes;
  // Bytes of pages mapped for them.
  size_t mapped_bytes;
  // Allocations since the start.
  uint64_t allocations;
  // 1 if the pages are secret memory, 0 if they are ordinary memory, or nothing was allocated yet.
  int secret;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Sets the allocator up: one of SECRETMEM_FORK_*, with SECRETMEM_FALLBACK if wanted. The first allocation does it
// with 0. Returns 0, -ENOSYS: no secret memory here, -ENOMEM: see `ulimit -l`, -EALREADY: other flags are in force,
// -EINVAL: unknown flags.
int secretmem_init(unsigned int flags);

// Allocates `size` zeroed bytes at a multiple of 16. NULL: see `secretmem_error`; also for 0 bytes.
uint8_t *secretmem_alloc(size_t size);

// Allocates `size` zeroed bytes at a multiple of `align`, a power of two up to 4096.
uint8_t *secretmem_aligned_alloc(size_t align, size_t size);

// Changes an allocation's size; the old bytes are wiped if it moves. NULL leaves the allocation as it is. A NULL
// `ptr` allocates.
//
// # Safety
// `ptr` is NULL or a live allocation.
uint8_t *secretmem_realloc(uint8_t *ptr,
                           size_t size);

// Wipes and frees. NULL does nothing. A pointer that is none, a second free and an overflow abort the program with
// a line on standard error.
//
// # Safety
// `ptr` is NULL or an allocation that nobody uses any more.
void secretmem_free(uint8_t *ptr);

// Zeroes an allocation that stays. Returns 0, or -EINVAL if `ptr` is none.
//
// # Safety
// Nobody reads or writes it meanwhile.
int secretmem_wipe(uint8_t *ptr);

// Bytes of a live allocation; 0 if `ptr` is none, so that a program can tell which memory is whose.
size_t secretmem_size(const uint8_t *ptr);

// Fills `*out`. Slow: it walks over all allocations.
//
// # Safety
// `out` is NULL or may be written.
void secretmem_get_stats(struct secretmem_stats *out);

// The text of this thread's last error; empty before the first. Valid until this thread's next error.
const char *secretmem_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SECRETMEM_H */
