/* SPDX-License-Identifier: Apache-2.0 */
/* cost_file.c - a cost table kept from one mount to the next. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/crc32c.h"
#include "fs/base/mem.h"
#include "fs/codec/cost.h"

/*
 * Host byte order and the compiler's doubles: it never leaves the machine, and
 * `who` and the checksum refuse what came from elsewhere.
 */
struct cost_file {
	char magic[8];
	uint32_t version, size;
	char who[240];
	struct bale_cost_table table;
	uint32_t pad, crc; /* of all before it */
};

enum { VERSION = 1 };
static const char magic[8] = "BALEcost";

static uint32_t sum(const struct cost_file *f)
{
	return bale_crc32c(0, f, offsetof(struct cost_file, crc));
}

static bool is_time(double v, double max)
{
	return isfinite(v) && v >= 0 && v <= max;
}

/* A second of fixed time, or 1 MB/s, is no engine's. */
static bool is_sane(const struct bale_cost_table *t)
{
	for (int side = 0; side < BALE_COST_SIDES; side++)
		for (int op = 0; op < 2; op++)
			for (int k = 0; k < BALE_COST_KINDS; k++) {
				const struct bale_cost_line *l =
					&t->at[side][op][k];

				if (!is_time(l->fixed_ns, 1e9) ||
				    !is_time(l->byte_ns, 1e3))
					return false;
			}
	return true;
}

static int check(const struct cost_file *f, const char *who)
{
	if (memcmp(f->magic, magic, sizeof(magic)) || f->crc != sum(f) ||
	    !memchr(f->who, '\0', sizeof(f->who)))
		return -EUCLEAN;
	if (f->version != VERSION || f->size != sizeof(*f) ||
	    strcmp(f->who, who))
		return -ESTALE;
	return is_sane(&f->table) ? 0 : -EUCLEAN;
}

int bale_cost_load(struct bale_cost *c, const char *path, const char *who)
{
	bale_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct cost_file f;
	char more;
	int r;

	if (fd < 0)
		return -errno;
	if (read(fd, &f, sizeof(f)) != (ssize_t)sizeof(f) ||
	    read(fd, &more, 1) != 0)
		return -EUCLEAN;
	r = check(&f, who);
	if (r)
		return r;
	bale_mutex_lock(&c->lock);
	c->table = f.table;
	bale_mutex_unlock(&c->lock);
	return 0;
}

/* The folders above the file, as far as they are missing. */
static void make_folders(const char *path)
{
	bale_autofree char *copy = strdup(path);

	for (char *s = copy ? strchr(copy + 1, '/') : NULL; s;
	     s = strchr(s + 1, '/')) {
		*s = '\0';
		(void)mkdir(copy, 0700);
		*s = '/';
	}
}

/* Never half a file, and never through somebody's link. */
int bale_cost_save(struct bale_cost *c, const char *path, const char *who)
{
	bale_autofree char *fresh = NULL;
	struct cost_file f;
	int fd, r = 0;

	if (strlen(who) >= sizeof(f.who))
		return -ENAMETOOLONG;
	memset(&f, 0, sizeof(f));
	memcpy(f.magic, magic, sizeof(magic));
	f.version = VERSION;
	f.size = sizeof(f);
	strcpy(f.who, who);
	bale_cost_get(c, &f.table);
	f.crc = sum(&f);
	if (asprintf(&fresh, "%s.%ld", path, (long)getpid()) < 0) {
		fresh = NULL;
		return -ENOMEM;
	}
	make_folders(path);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, &f, sizeof(f)) != (ssize_t)sizeof(f))
		r = -EIO;
	if (close(fd) && !r)
		r = -errno;
	if (!r && rename(fresh, path))
		r = -errno;
	if (r)
		(void)unlink(fresh);
	return r;
}

int bale_cost_path(char *buf, size_t cap)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int n;

	/* As the specification of those variables wants: absolute or ignored.
	 */
	if (cache && cache[0] == '/')
		n = snprintf(buf, cap, "%s/balefs/engine-cost", cache);
	else if (home && home[0] == '/')
		n = snprintf(buf, cap, "%s/.cache/balefs/engine-cost", home);
	else
		return -ENOENT;
	return n > 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}
