// SPDX-License-Identifier: GPL-2.0
/*
 * rewrite FILE COUNT: writes COUNT different blocks of 4 KiB of FILE once each,
 * in random order and through the page cache, has them made durable, and prints
 * how many nanoseconds all that took.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

int main(int argc, char **argv)
{
	static char data[BLOCK];
	uint32_t *order, count, blocks;
	uint64_t lot = 1, begin;
	struct stat about;
	int fd;

	if (argc != 3)
		errx(2, "usage: rewrite FILE COUNT");
	fd = open(argv[1], O_WRONLY);
	if (fd < 0 || fstat(fd, &about))
		err(1, "%s", argv[1]);
	blocks = about.st_size / BLOCK;
	count = strtoul(argv[2], NULL, 10);
	order = calloc(blocks, sizeof(*order));
	if (!order || count > blocks)
		errx(1, "%s: it has no more than %u blocks", argv[1], blocks);
	for (uint32_t number = 0; number < blocks; number++)
		order[number] = number;
	for (uint32_t number = 0; number < count; number++) {
		uint32_t other, kept = order[number];

		/* Knuth's MMIX generator; its upper half is random enough. */
		lot = lot * 6364136223846793005ull + 1442695040888963407ull;
		other = number + (lot >> 33) % (blocks - number);
		order[number] = order[other];
		order[other] = kept;
	}
	begin = now();
	for (uint32_t number = 0; number < count; number++)
		if (pwrite(fd, data, BLOCK, (uint64_t)order[number] * BLOCK) != BLOCK)
			err(1, "%s: write", argv[1]);
	if (fsync(fd))
		err(1, "%s: sync", argv[1]);
	printf("%llu\n", (unsigned long long)(now() - begin));
	return 0;
}
