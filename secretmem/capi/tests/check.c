// SPDX-License-Identifier: Apache-2.0
// The C interface: what works, what is refused, and what stops a program.
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "secretmem.h"

static int ends(void (*body)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		assert(freopen("/dev/null", "w", stderr));
		body();
		_exit(0);
	}
	assert(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void twice(void)
{
	uint8_t *key = secretmem_alloc(32);

	secretmem_free(key);
	secretmem_free(key);
}

static void foreign(void)
{
	static uint8_t key[32];

	secretmem_free(key);
}

static void overflow(void)
{
	uint8_t *key = secretmem_alloc(32);

	key[32] ^= 1;
	secretmem_free(key);
}

static void once(void)
{
	secretmem_free(secretmem_alloc(32));
}

int main(void)
{
	struct secretmem_stats stats;

	assert(secretmem_init(77) == -EINVAL);
	if (secretmem_init(SECRETMEM_FORK_COPY) != 0) {
		fprintf(stderr, "%s\n", secretmem_error());
		return 1;
	}
	assert(secretmem_init(SECRETMEM_FORK_WIPED) == -EALREADY);

	uint8_t *key = secretmem_alloc(32);
	assert(key && secretmem_size(key) == 32 && (uintptr_t)key % 16 == 0);
	memcpy(key, "0123456789abcdef", 16);
	key = secretmem_realloc(key, 5000);
	assert(key && !memcmp(key, "0123456789abcdef", 16) && key[16] == 0 && key[4999] == 0);

	secretmem_get_stats(&stats);
	assert(stats.live == 1 && stats.live_bytes == 5000 && stats.secret == 1);

	assert(secretmem_wipe(key) == 0 && key[0] == 0);
	assert(secretmem_wipe((uint8_t *)&stats) == -EINVAL);
	secretmem_free(key);
	secretmem_free(NULL);

	key = secretmem_aligned_alloc(4096, 10);
	assert(key && (uintptr_t)key % 4096 == 0);
	secretmem_free(key);

	assert(!secretmem_alloc(0) && strstr(secretmem_error(), "0 bytes"));
	assert(!secretmem_alloc((size_t)-1) && strstr(secretmem_error(), "too large"));
	assert(!secretmem_aligned_alloc(24, 8));

	assert(ends(once) == 0);
	assert(ends(twice) == SIGABRT);
	assert(ends(foreign) == SIGABRT);
	assert(ends(overflow) == SIGABRT);
	puts("secretmem C interface: all checks passed");
	return 0;
}
