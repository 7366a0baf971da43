// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads physical memory by its address in the direct map, whatever the page tables say of it: a page that is not
 * mapped is a fault that copy_from_kernel_nofault() catches.
 */
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "witness.h"

struct touched {
	void *page;
	u64 readable;
	u64 refused;
};

/* Runs on the CPU that is asked about, so that it is that CPU's TLB that answers. */
static long touch_all(void *argument)
{
	struct touched *touched = argument;
	size_t i;

	for (i = 0; i < witness_frames.nr; i++) {
		void *address = __va(witness_frames.pfns[i] << PAGE_SHIFT);

		if (copy_from_kernel_nofault(touched->page, address, PAGE_SIZE))
			touched->refused += PAGE_SIZE;
		else
			touched->readable += PAGE_SIZE;
		if (i % 1024 == 0)
			cond_resched();
	}
	return 0;
}

/* A line for each CPU: how many bytes of the set it could read, and how many not. */
int touch_show(struct seq_file *m, void *unused)
{
	struct touched touched;
	void *page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	int cpu;

	if (!page)
		return -ENOMEM;
	mutex_lock(&witness_lock);
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		touched = (struct touched) { .page = page };
		work_on_cpu(cpu, touch_all, &touched);
		seq_printf(m, "cpu %d readable %llu refused %llu\n", cpu, touched.readable, touched.refused);
	}
	cpus_read_unlock();
	mutex_unlock(&witness_lock);
	kfree_sensitive(page);
	return 0;
}

/* The file's offset is the physical address; EFAULT where the direct map has nothing. */
ssize_t physical_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	void *page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	ssize_t done = 0;

	if (!page)
		return -ENOMEM;
	while (count - done >= PAGE_SIZE) {
		if (copy_from_kernel_nofault(page, __va(*ppos), PAGE_SIZE) ||
		    copy_to_user(buf + done, page, PAGE_SIZE)) {
			done = done ?: -EFAULT;
			break;
		}
		done += PAGE_SIZE;
		*ppos += PAGE_SIZE;
		cond_resched();
	}
	kfree_sensitive(page);
	return done;
}

/* The file's offset is 8 times the frame number. A look at the first word of each frame is cheap, all of it is not. */
ssize_t heads_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	size_t nr = min_t(size_t, count, PAGE_SIZE) / sizeof(u64);
	u64 pfn = *ppos / sizeof(u64);
	u64 *heads = kmalloc(PAGE_SIZE, GFP_KERNEL);
	ssize_t ret = nr * sizeof(u64);
	size_t i;

	if (!heads)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		if (copy_from_kernel_nofault(&heads[i], __va((pfn + i) << PAGE_SHIFT), sizeof(u64)))
			heads[i] = U64_MAX;
	}
	if (copy_to_user(buf, heads, ret))
		ret = -EFAULT;
	else
		*ppos += ret;
	kfree_sensitive(heads);
	cond_resched();
	return ret;
}
