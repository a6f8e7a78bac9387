// SPDX-License-Identifier: GPL-2.0
/*
 * slow-flush: a device-mapper target for benchmarks. "0 LENGTH slow-flush
 * DEVICE MICROSECONDS" is DEVICE, but a flush, and a write with FUA, is sent
 * down so much later. dm-delay counts in ticks, of 4 ms on most kernels.
 */
#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/workqueue.h>

struct slow {
	struct dm_dev *below;
	unsigned int us;
	struct workqueue_struct *queue;
};

struct late {
	struct hrtimer timer;
	struct work_struct work;
	struct slow *slow;
};

static void late_submit(struct work_struct *work)
{
	struct late *late = container_of(work, struct late, work);

	submit_bio_noacct(dm_bio_from_per_bio_data(late, sizeof(*late)));
}

static enum hrtimer_restart late_now(struct hrtimer *timer)
{
	struct late *late = container_of(timer, struct late, timer);

	queue_work(late->slow->queue, &late->work);
	return HRTIMER_NORESTART;
}

static int slow_map(struct dm_target *ti, struct bio *bio)
{
	struct slow *slow = ti->private;
	struct late *late = dm_per_bio_data(bio, sizeof(*late));

	bio_set_dev(bio, slow->below->bdev);
	if (!op_is_flush(bio->bi_opf))
		return DM_MAPIO_REMAPPED;
	late->slow = slow;
	INIT_WORK(&late->work, late_submit);
	hrtimer_setup(&late->timer, late_now, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	hrtimer_start(&late->timer, ns_to_ktime(slow->us * 1000ull), HRTIMER_MODE_REL);
	return DM_MAPIO_SUBMITTED;
}

static int slow_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct slow *slow;
	int error = -EINVAL;

	if (argc != 2) {
		ti->error = "expected a device and microseconds";
		return -EINVAL;
	}
	slow = kzalloc(sizeof(*slow), GFP_KERNEL);
	if (!slow)
		return -ENOMEM;
	if (kstrtouint(argv[1], 10, &slow->us)) {
		ti->error = "microseconds are not a number";
		goto free;
	}
	slow->queue = alloc_workqueue("slow-flush", WQ_MEM_RECLAIM | WQ_HIGHPRI | WQ_PERCPU, 0);
	error = -ENOMEM;
	if (!slow->queue)
		goto free;
	error = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &slow->below);
	if (error) {
		ti->error = "no such device";
		goto destroy;
	}
	ti->private = slow;
	ti->num_flush_bios = 1;
	ti->num_discard_bios = 1;
	ti->per_io_data_size = sizeof(struct late);
	return 0;

destroy:
	destroy_workqueue(slow->queue);
free:
	kfree(slow);
	return error;
}

static void slow_dtr(struct dm_target *ti)
{
	struct slow *slow = ti->private;

	destroy_workqueue(slow->queue);
	dm_put_device(ti, slow->below);
	kfree(slow);
}

static int slow_iterate(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct slow *slow = ti->private;

	return fn(ti, slow->below, 0, ti->len, data);
}

static struct target_type slow_target = {
	.name = "slow-flush",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = slow_ctr,
	.dtr = slow_dtr,
	.map = slow_map,
	.iterate_devices = slow_iterate,
};
module_dm(slow);

MODULE_DESCRIPTION("A slow flush, for benchmarks");
MODULE_LICENSE("GPL");
