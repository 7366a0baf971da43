// SPDX-License-Identifier: GPL-2.0-only
/*
 * A second mapping of one frame, as new code in ring 0 can always make it: the control that the frame has what the
 * direct map does not show. Held until another frame number, or 0, is written.
 *
 * It takes no reference: whoever asks keeps the frame in use.
 */
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "witness.h"

static void *window;

void window_close(void)
{
	vunmap(window);
	window = NULL;
}

ssize_t window_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	struct page *page;
	u64 pfn;
	int ret = kstrtou64_from_user(buf, count, 0, &pfn);

	if (ret)
		return ret;
	if (pfn && !pfn_valid(pfn))
		return -ENXIO;
	mutex_lock(&witness_lock);
	window_close();
	if (pfn) {
		page = pfn_to_page(pfn);
		window = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
		ret = window ? 0 : -ENOMEM;
	}
	mutex_unlock(&witness_lock);
	return ret ?: count;
}

ssize_t window_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	void *page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	ssize_t ret = -ENODATA;

	if (!page)
		return -ENOMEM;
	mutex_lock(&witness_lock);
	if (window && !copy_from_kernel_nofault(page, window, PAGE_SIZE))
		ret = simple_read_from_buffer(buf, count, ppos, page, PAGE_SIZE);
	mutex_unlock(&witness_lock);
	kfree_sensitive(page);
	return ret;
}
