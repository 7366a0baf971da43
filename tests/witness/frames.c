// SPDX-License-Identifier: GPL-2.0-only
/*
 * The set of frames: written as an array of u64 frame numbers in one write(2).
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>

#include "witness.h"

/* 16 GiB of guest RAM; the array for it has 32 MiB. */
#define MAX_FRAMES	(4UL << 20)

struct frame_set witness_frames;

static int compare(const void *one, const void *other)
{
	u64 a = *(const u64 *)one, b = *(const u64 *)other;

	return a < b ? -1 : a > b;
}

void frames_forget(void)
{
	kvfree(witness_frames.pfns);
	witness_frames.pfns = NULL;
	witness_frames.nr = 0;
}

/* Called with witness_lock held. */
ssize_t frames_replace(const char __user *buf, size_t count)
{
	u64 *pfns;

	if (!count || count % sizeof(u64) || count / sizeof(u64) > MAX_FRAMES)
		return -EINVAL;
	pfns = kvmalloc(count, GFP_KERNEL);
	if (!pfns)
		return -ENOMEM;
	if (copy_from_user(pfns, buf, count)) {
		kvfree(pfns);
		return -EFAULT;
	}
	sort(pfns, count / sizeof(u64), sizeof(u64), compare, NULL);
	frames_forget();
	witness_frames.pfns = pfns;
	witness_frames.nr = count / sizeof(u64);
	return count;
}

/* Index of the first frame that is not below @pfn; the set's size if there is none. */
size_t frames_first_from(u64 pfn)
{
	size_t low = 0, high = witness_frames.nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (witness_frames.pfns[middle] < pfn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
