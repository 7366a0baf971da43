/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the host kernel can reach of a set of frames: the test module's parts.
 */
#ifndef SECRETVMM_WITNESS_H
#define SECRETVMM_WITNESS_H

#include <linux/bits.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/types.h>

/* Frames that user space asks about, in ascending order. */
struct frame_set {
	u64 *pfns;
	size_t nr;
};

extern struct frame_set witness_frames;
extern struct mutex witness_lock;

/* frames.c */
ssize_t frames_replace(const char __user *buf, size_t count);
void frames_forget(void);
size_t frames_first_from(u64 pfn);

/* walk.c; a line has less than 128 bytes */
#define WALK_MAX_TOLD	4096
#define WALK_TEXT_SIZE	(128 * WALK_MAX_TOLD)
int walk_show(struct seq_file *m, void *unused);

/* reads.c */
int touch_show(struct seq_file *m, void *unused);
ssize_t physical_read(struct file *file, char __user *buf, size_t count, loff_t *ppos);
ssize_t heads_read(struct file *file, char __user *buf, size_t count, loff_t *ppos);

/* window.c */
ssize_t window_read(struct file *file, char __user *buf, size_t count, loff_t *ppos);
ssize_t window_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos);
void window_close(void);

/* leak.c */
ssize_t leak_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos);
void leak_close(void);

/* restored.c */
ssize_t restored_read(struct file *file, char __user *buf, size_t count, loff_t *ppos);
ssize_t restored_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos);
void restored_close(void);

#endif
