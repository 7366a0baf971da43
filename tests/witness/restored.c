// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is in pages at the moment when they come back into the direct map: from then on, any kernel bug reads them.
 */
#include <linux/atomic.h>
#include <linux/kprobes.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/uaccess.h>

#include "witness.h"

static atomic64_t pages, filled;
static bool watching;

struct call {
	struct page *page;
	unsigned long nr;
};

/* int set_direct_map_valid_noflush(struct page *page, unsigned nr, bool valid) */
static int called(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;

	call->page = (struct page *)regs->di;
	call->nr = (u32)regs->si;
	/* not zero: not interested in the return */
	return !(u8)regs->dx;
}

/* The first word tells: those who ask fill pages with something else than zeroes. */
static int returned(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;
	unsigned long i;
	u64 word;

	for (i = 0; i < call->nr; i++) {
		if (copy_from_kernel_nofault(&word, page_address(call->page + i), sizeof(word)))
			continue;
		atomic64_inc(&pages);
		if (word)
			atomic64_inc(&filled);
	}
	return 0;
}

static struct kretprobe probe = {
	.kp.symbol_name = "set_direct_map_valid_noflush",
	.entry_handler = called,
	.handler = returned,
	.data_size = sizeof(struct call),
	.maxactive = 64,
};

void restored_close(void)
{
	if (watching)
		unregister_kretprobe(&probe);
	watching = false;
}

/* 1 begins to count, from zero; 0 ends it. */
ssize_t restored_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	bool wanted;
	int ret = kstrtobool_from_user(buf, count, &wanted);

	if (ret)
		return ret;
	mutex_lock(&witness_lock);
	restored_close();
	if (wanted) {
		atomic64_set(&pages, 0);
		atomic64_set(&filled, 0);
		/* registered once before, it is not as it was */
		probe.kp.addr = NULL;
		probe.kp.flags = 0;
		ret = register_kretprobe(&probe);
		watching = !ret;
	}
	mutex_unlock(&witness_lock);
	return ret ?: count;
}

ssize_t restored_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	char text[64];
	int length = scnprintf(text, sizeof(text), "pages %lld filled %lld missed %d\n", atomic64_read(&pages),
			       atomic64_read(&filled), probe.nmissed);

	return simple_read_from_buffer(buf, count, ppos, text, length);
}
