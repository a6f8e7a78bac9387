// SPDX-License-Identifier: GPL-2.0
/*
 * Macros and inline functions of the kernel, as functions that Rust can call.
 */

#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sysfs.h>
#include <linux/timekeeping.h>

#include "bindings_helper.h"

/* The bios that this thread has submitted, or been given to map, and not yet sent to a driver. */
bool helper_bio_list_is_empty(void)
{
	return !current->bio_list ||
	       (bio_list_empty(&current->bio_list[0]) && bio_list_empty(&current->bio_list[1]));
}

void helper_bio_set_dev(struct bio *bio, struct block_device *bdev)
{
	bio_set_dev(bio, bdev);
}

unsigned int helper_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

sector_t helper_bdev_nr_sectors(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}

bool helper_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

bool helper_bdev_is_zoned(struct block_device *bdev)
{
	return bdev_is_zoned(bdev);
}

unsigned int helper_bdev_max_discard_sectors(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev);
}

struct kobject *helper_disk_kobject(struct gendisk *disk)
{
	return &disk_to_dev(disk)->kobj;
}

/* Where lockdep is there, attributes that are not static need a key that is. */
void helper_sysfs_attr_init(struct attribute *attr)
{
	sysfs_attr_init(attr);
}

u32 helper_crc32_le(u32 crc, const void *data, size_t len)
{
	return crc32_le(crc, data, len);
}

void *helper_page_address(struct page *page)
{
	return page_address(page);
}

int helper_init_srcu_struct(struct srcu_struct *srcu)
{
	return init_srcu_struct(srcu);
}

int helper_srcu_down_read(struct srcu_struct *srcu)
{
	return srcu_down_read(srcu);
}

void helper_srcu_up_read(struct srcu_struct *srcu, int index)
{
	srcu_up_read(srcu, index);
}

struct workqueue_struct *helper_alloc_workqueue(const char *name, bool for_reclaim)
{
	return alloc_workqueue("%s", WQ_UNBOUND | (for_reclaim ? WQ_MEM_RECLAIM : 0), 2, name);
}

time64_t helper_real_seconds(void)
{
	return ktime_get_real_seconds();
}

unsigned int helper_noio_save(void)
{
	return memalloc_noio_save();
}

void helper_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}
