// SPDX-License-Identifier: GPL-2.0
/*
 * discard DEVICE COUNT: discards that many blocks of 4 KiB, every other one
 * from the second of the device on, each by itself.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define BLOCK 4096ull

int main(int argc, char **argv)
{
	int fd;

	if (argc != 3)
		errx(2, "usage: discard DEVICE COUNT");
	fd = open(argv[1], O_RDWR);
	if (fd < 0)
		err(1, "%s", argv[1]);
	for (uint64_t number = 0, count = strtoull(argv[2], NULL, 10); number < count; number++) {
		uint64_t range[2] = { (2 * number + 1) * BLOCK, BLOCK };

		if (ioctl(fd, BLKDISCARD, range))
			err(1, "%s: discard at %llu", argv[1], (unsigned long long)range[0]);
	}
	return 0;
}
