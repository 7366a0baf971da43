// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings of one frame that the kernel must never make: controls for whoever says that there are none.
 *
 *   direct FRAME   the frame's own page of the direct map, put back
 *   image FRAME    an address of the kernel image whose memory was given back after boot
 *   0              takes the one that is held away again
 *
 * What is needed for it is not exported, so it is found as kprobes find it.
 */
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/set_memory.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <asm/tlbflush.h>

#include "witness.h"

static struct page *restored;
static pte_t *alias, before;
static unsigned long alias_address;

static void *find(const char *name)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long (*lookup)(const char *name);

	if (register_kprobe(&probe))
		return NULL;
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	return (void *)lookup(name);
}

static void flush(unsigned long address)
{
	void (*flush_range)(unsigned long start, unsigned long end) = find("flush_tlb_kernel_range");

	if (flush_range)
		flush_range(address, address + PAGE_SIZE);
}

static int direct_open(struct page *page)
{
	int (*set_valid)(struct page *page, unsigned nr, bool valid) = find("set_direct_map_valid_noflush");
	int ret = set_valid ? set_valid(page, 1, true) : -ENOENT;

	if (!ret)
		restored = page;
	return ret;
}

static void direct_close(void)
{
	int (*set_valid)(struct page *page, unsigned nr, bool valid) = find("set_direct_map_valid_noflush");

	if (!restored || !set_valid)
		return;
	set_valid(restored, 1, false);
	flush((unsigned long)page_address(restored));
	restored = NULL;
}

/* Boot gave the memory of this part of the image back, and nothing is at its addresses any more. */
static int image_open(struct page *page)
{
	unsigned long start = (unsigned long)find("__init_begin"), end = (unsigned long)find("__init_end");
	unsigned int level;

	for (alias_address = start; alias_address < end; alias_address += PAGE_SIZE) {
		alias = lookup_address(alias_address, &level);
		if (alias && level == PG_LEVEL_4K)
			break;
		alias = NULL;
	}
	if (!alias)
		return -ENXIO;
	before = *alias;
	set_pte(alias, mk_pte(page, PAGE_KERNEL));
	flush(alias_address);
	return 0;
}

static void image_close(void)
{
	if (!alias)
		return;
	set_pte(alias, before);
	flush(alias_address);
	alias = NULL;
}

void leak_close(void)
{
	direct_close();
	image_close();
}

ssize_t leak_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	char text[64] = {}, kind[8] = {};
	struct page *page;
	u64 pfn = 0;
	int ret = 0;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, buf, count))
		return -EFAULT;
	mutex_lock(&witness_lock);
	leak_close();
	if (strcmp(strim(text), "0")) {
		ret = sscanf(text, "%7s %llu", kind, &pfn) == 2 && pfn_valid(pfn) ? 0 : -EINVAL;
		page = ret ? NULL : pfn_to_page(pfn);
		if (!ret && !strcmp(kind, "direct"))
			ret = direct_open(page);
		else if (!ret && !strcmp(kind, "image"))
			ret = image_open(page);
		else
			ret = ret ?: -EINVAL;
	}
	mutex_unlock(&witness_lock);
	return ret ?: count;
}
