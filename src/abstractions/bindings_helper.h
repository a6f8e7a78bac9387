/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen turns into Rust for the abstractions, and the helpers for what it cannot see:
 * macros and inline functions.
 */
#ifndef DM_BOW_BINDINGS_HELPER_H
#define DM_BOW_BINDINGS_HELPER_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/crc32.h>
#include <linux/device-mapper.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>

/* Values of macros that have casts in them. */
static const unsigned int HELPER_REQ_OP_MASK = REQ_OP_MASK;
static const unsigned int HELPER_REQ_OP_READ = REQ_OP_READ;
static const unsigned int HELPER_REQ_OP_WRITE = REQ_OP_WRITE;
static const unsigned int HELPER_REQ_OP_DISCARD = REQ_OP_DISCARD;
static const unsigned int HELPER_REQ_FUA = REQ_FUA;
static const unsigned int HELPER_REQ_SYNC = REQ_SYNC;
static const unsigned int HELPER_REQ_META = REQ_META;
static const unsigned int HELPER_REQ_IDLE = REQ_IDLE;
static const unsigned int HELPER_REQ_NOWAIT = REQ_NOWAIT;
static const unsigned int HELPER_REQ_PREFLUSH = REQ_PREFLUSH;
static const unsigned int HELPER_REQ_POLLED = REQ_POLLED;
static const gfp_t HELPER_GFP_NOIO = GFP_NOIO;
static const gfp_t HELPER_GFP_CHUNK = GFP_KERNEL | __GFP_COMP | __GFP_ZERO;
static const blk_mode_t HELPER_BLK_OPEN_WRITE = BLK_OPEN_WRITE;
static const unsigned char HELPER_BLK_STS_OK = BLK_STS_OK;
static const unsigned char HELPER_BLK_STS_IOERR = BLK_STS_IOERR;
static const unsigned char HELPER_BLK_STS_AGAIN = BLK_STS_AGAIN;
static const unsigned char HELPER_BLK_STS_NOSPC = BLK_STS_NOSPC;
static const unsigned int HELPER_BIO_MAX_VECS = BIO_MAX_VECS;

bool helper_bio_list_is_empty(void);
void helper_bio_set_dev(struct bio *bio, struct block_device *bdev);
unsigned int helper_bdev_logical_block_size(struct block_device *bdev);
sector_t helper_bdev_nr_sectors(struct block_device *bdev);
bool helper_bdev_read_only(struct block_device *bdev);
bool helper_bdev_is_zoned(struct block_device *bdev);
unsigned int helper_bdev_max_discard_sectors(struct block_device *bdev);
struct kobject *helper_disk_kobject(struct gendisk *disk);
void helper_sysfs_attr_init(struct attribute *attr);
u32 helper_crc32_le(u32 crc, const void *data, size_t len);
void *helper_page_address(struct page *page);
int helper_init_srcu_struct(struct srcu_struct *srcu);
int helper_srcu_down_read(struct srcu_struct *srcu);
void helper_srcu_up_read(struct srcu_struct *srcu, int index);
struct workqueue_struct *helper_alloc_workqueue(const char *name, bool for_reclaim);
time64_t helper_real_seconds(void);
unsigned int helper_noio_save(void);
void helper_noio_restore(unsigned int flags);

#endif
