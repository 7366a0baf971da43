// SPDX-License-Identifier: GPL-2.0-only
/*
 * secretvmm_witness: what the kernel of a test host can reach of a guest's frames. For tests only: it shows all of
 * physical memory that the direct map has.
 *
 * Files in /sys/kernel/debug/secretvmm_witness:
 *
 *   frames    write: an array of u64 frame numbers, in one write; replaces the set
 *   walk      read: every present entry of the kernel's page tables that reaches a frame of the set
 *               frames N / reached N / leaves N / unreadable_tables N
 *               leaf ADDRESS 4K|2M|1G direct|image|vmalloc|modules|other pfn=FIRST frames=N
 *   touch     read: cpu N readable BYTES refused BYTES, of the set by the direct map
 *   physical  read at a physical address: memory by the direct map, EFAULT where it has a hole
 *   heads     read at 8 times a frame number: the first u64 of each frame by the direct map, all ones where it has a hole
 *   window    write a frame number: a second mapping of that frame is held, until 0 is written; read: its contents
 *   leak      write "direct FRAME" or "image FRAME": a mapping that no part of the kernel may make, until 0 is written
 *   restored  write 1: count pages that come back into the direct map from now on, until 0 is written;
 *             read: pages N filled N missed N, filled being those whose first word was not zero just then, and missed
 *             calls that could not be looked at
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>

#include "witness.h"

DEFINE_MUTEX(witness_lock);

static struct dentry *folder;

static ssize_t frames_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	ssize_t ret;

	mutex_lock(&witness_lock);
	ret = frames_replace(buf, count);
	mutex_unlock(&witness_lock);
	return ret;
}

static const struct file_operations frames_fops = {
	.owner = THIS_MODULE,
	.write = frames_write,
};

static const struct file_operations physical_fops = {
	.owner = THIS_MODULE,
	.read = physical_read,
	.llseek = default_llseek,
};

static const struct file_operations heads_fops = {
	.owner = THIS_MODULE,
	.read = heads_read,
	.llseek = default_llseek,
};

static const struct file_operations window_fops = {
	.owner = THIS_MODULE,
	.read = window_read,
	.write = window_write,
	.llseek = default_llseek,
};

static const struct file_operations leak_fops = {
	.owner = THIS_MODULE,
	.write = leak_write,
};

static const struct file_operations restored_fops = {
	.owner = THIS_MODULE,
	.read = restored_read,
	.write = restored_write,
	.llseek = default_llseek,
};

/* Room for all that it tells, or it would walk again and again for more. */
static int walk_open(struct inode *inode, struct file *file)
{
	return single_open_size(file, walk_show, NULL, WALK_TEXT_SIZE);
}

static const struct file_operations walk_fops = {
	.owner = THIS_MODULE,
	.open = walk_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = single_release,
};

DEFINE_SHOW_ATTRIBUTE(touch);

static int __init witness_init(void)
{
	folder = debugfs_create_dir("secretvmm_witness", NULL);
	debugfs_create_file("frames", 0200, folder, NULL, &frames_fops);
	debugfs_create_file("walk", 0400, folder, NULL, &walk_fops);
	debugfs_create_file("touch", 0400, folder, NULL, &touch_fops);
	debugfs_create_file("physical", 0400, folder, NULL, &physical_fops);
	debugfs_create_file("heads", 0400, folder, NULL, &heads_fops);
	debugfs_create_file("window", 0600, folder, NULL, &window_fops);
	debugfs_create_file("leak", 0200, folder, NULL, &leak_fops);
	debugfs_create_file("restored", 0600, folder, NULL, &restored_fops);
	return PTR_ERR_OR_ZERO(folder);
}

static void __exit witness_exit(void)
{
	debugfs_remove(folder);
	window_close();
	leak_close();
	restored_close();
	frames_forget();
}

module_init(witness_init);
module_exit(witness_exit);
MODULE_DESCRIPTION("What a test host's kernel can reach of a guest's frames");
MODULE_LICENSE("GPL");
