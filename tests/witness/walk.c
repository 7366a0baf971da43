// SPDX-License-Identifier: GPL-2.0-only
/*
 * Walks the kernel half of the page tables for present entries that reach a frame of the set.
 *
 * init_mm is not exported. The kernel half of every process's top table has init_mm's own entries, made at boot, so
 * the walk starts at CR3. It reads copies of tables: one that is given back meanwhile is a fault that is counted,
 * and no crash.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/special_insns.h>

#include "witness.h"

#define MAX_LEVELS	5

struct leaf {
	u64 address;
	u64 pfn;
	u64 nr_frames;
	int level;
};

struct walk {
	u64 *tables[MAX_LEVELS];
	struct leaf *told;
	/* A bit for each frame of the set. */
	unsigned long *reached;
	u64 nr_leaves;
	u64 nr_unreadable;
	int nr_levels;
};

static int level_shift(int level)
{
	return PAGE_SHIFT + 9 * (level - 1);
}

static const char *level_name(int level)
{
	return level == 1 ? "4K" : level == 2 ? "2M" : "1G";
}

/* Documentation/arch/x86/x86_64/mm.rst: in this order, whatever KASLR does. */
static const char *area_name(u64 address)
{
	if (address >= __START_KERNEL_map)
		return address < MODULES_VADDR ? "image" : "modules";
	if (address >= VMALLOC_START && address <= VMALLOC_END)
		return "vmalloc";
	if (address >= PAGE_OFFSET && address < VMALLOC_START)
		return "direct";
	return "other";
}

static void note_leaf(struct walk *walk, u64 entry, int level, u64 address)
{
	u64 nr_pages = 1ULL << (level_shift(level) - PAGE_SHIFT);
	u64 pfn = ((entry & PTE_PFN_MASK) >> PAGE_SHIFT) & ~(nr_pages - 1);
	size_t first = frames_first_from(pfn), end = frames_first_from(pfn + nr_pages);

	if (first == end)
		return;
	bitmap_set(walk->reached, first, end - first);
	if (walk->nr_leaves < WALK_MAX_TOLD)
		walk->told[walk->nr_leaves] = (struct leaf) {
			.address = address,
			.pfn = pfn,
			.nr_frames = end - first,
			.level = level,
		};
	walk->nr_leaves++;
}

static u64 canonical(struct walk *walk, u64 address)
{
	int unused = 64 - level_shift(walk->nr_levels + 1);

	return (u64)((s64)(address << unused) >> unused);
}

static void walk_table(struct walk *walk, u64 physical, int level, u64 base)
{
	u64 *table = walk->tables[level - 1];
	u64 before = 0;
	int i;

	cond_resched();
	if (copy_from_kernel_nofault(table, __va(physical), PAGE_SIZE)) {
		walk->nr_unreadable++;
		return;
	}
	for (i = level == walk->nr_levels ? PTRS_PER_PGD / 2 : 0; i < PTRS_PER_PGD; i++) {
		u64 entry = table[i], address = base + ((u64)i << level_shift(level));

		/* Neighbours with one table (KASAN's empty shadow, espfix) reach the same frames again. */
		if (!(entry & _PAGE_PRESENT) || (level > 1 && entry == before))
			continue;
		before = entry;
		if (level == 1 || (level <= 3 && entry & _PAGE_PSE))
			note_leaf(walk, entry, level, canonical(walk, address));
		else
			walk_table(walk, entry & PTE_PFN_MASK, level - 1, address);
	}
}

static void walk_free(struct walk *walk)
{
	int i;

	for (i = 0; i < MAX_LEVELS; i++)
		kfree(walk->tables[i]);
	kvfree(walk->told);
	bitmap_free(walk->reached);
}

static int walk_alloc(struct walk *walk)
{
	int i;

	for (i = 0; i < MAX_LEVELS; i++) {
		walk->tables[i] = kmalloc(PAGE_SIZE, GFP_KERNEL);
		if (!walk->tables[i])
			return -ENOMEM;
	}
	walk->told = kvcalloc(WALK_MAX_TOLD, sizeof(*walk->told), GFP_KERNEL);
	walk->reached = bitmap_zalloc(witness_frames.nr, GFP_KERNEL);
	return walk->told && walk->reached ? 0 : -ENOMEM;
}

static void tell(struct seq_file *m, struct walk *walk)
{
	u64 i;

	seq_printf(m, "frames %zu\n", witness_frames.nr);
	seq_printf(m, "reached %u\n", bitmap_weight(walk->reached, witness_frames.nr));
	seq_printf(m, "leaves %llu\n", walk->nr_leaves);
	seq_printf(m, "unreadable_tables %llu\n", walk->nr_unreadable);
	for (i = 0; i < min_t(u64, walk->nr_leaves, WALK_MAX_TOLD); i++) {
		struct leaf *leaf = &walk->told[i];

		seq_printf(m, "leaf 0x%llx %s %s pfn=0x%llx frames=%llu\n", leaf->address, level_name(leaf->level),
			   area_name(leaf->address), leaf->pfn, leaf->nr_frames);
	}
}

int walk_show(struct seq_file *m, void *unused)
{
	struct walk walk = {};
	int ret;

	walk.nr_levels = native_read_cr4() & X86_CR4_LA57 ? 5 : 4;
	mutex_lock(&witness_lock);
	ret = witness_frames.nr ? walk_alloc(&walk) : -ENODATA;
	if (!ret) {
		walk_table(&walk, __native_read_cr3() & CR3_ADDR_MASK, walk.nr_levels, 0);
		tell(m, &walk);
	}
	walk_free(&walk);
	mutex_unlock(&witness_lock);
	return ret;
}
