/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_dir.h - the directory of a forged store: made once, emptied and filled
 * anew for every input. One thread. Failures end the process.
 */
#ifndef BALE_TESTS_FUZZ_DIR_H
#define BALE_TESTS_FUZZ_DIR_H

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

static char fuzz_dir[64];
static const char *const fuzz_folders[] = { "log", "seg", "ckpt", "index" };
enum { FUZZ_NR_FOLDERS = 4 };

/* True the first time. */
static inline bool fuzz_dir_make(void)
{
	char path[96];

	if (fuzz_dir[0])
		return false;
	strcpy(fuzz_dir, "/dev/shm/balefs-fuzz-XXXXXX");
	if (!mkdtemp(fuzz_dir)) {
		strcpy(fuzz_dir, "/tmp/balefs-fuzz-XXXXXX");
		FUZZ_ASSERT(mkdtemp(fuzz_dir));
	}
	for (int k = 0; k < FUZZ_NR_FOLDERS; k++) {
		snprintf(path, sizeof(path), "%s/%s", fuzz_dir,
			 fuzz_folders[k]);
		FUZZ_ASSERT(!mkdir(path, 0700));
	}
	setenv("TMPDIR", fuzz_dir, 1);
	return true;
}

static inline void fuzz_dir_clear(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static inline void fuzz_dir_empty(void)
{
	char path[96];

	fuzz_dir_clear(fuzz_dir);
	for (int k = 0; k < FUZZ_NR_FOLDERS; k++) {
		snprintf(path, sizeof(path), "%s/%s", fuzz_dir,
			 fuzz_folders[k]);
		mkdir(path, 0700);
		fuzz_dir_clear(path);
	}
}

static inline void fuzz_dir_write(const char *name, const void *head,
				  size_t head_len, const void *p, size_t len)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", fuzz_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	FUZZ_ASSERT(fd >= 0);
	FUZZ_ASSERT(write(fd, head, head_len) == (ssize_t)head_len);
	FUZZ_ASSERT(!len || write(fd, p, len) == (ssize_t)len);
	close(fd);
}

static inline void fuzz_dir_remove(void)
{
	char path[96];

	fuzz_dir_empty();
	for (int k = 0; k < FUZZ_NR_FOLDERS; k++) {
		snprintf(path, sizeof(path), "%s/%s", fuzz_dir,
			 fuzz_folders[k]);
		rmdir(path);
	}
	rmdir(fuzz_dir);
}

#endif
