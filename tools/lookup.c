/* SPDX-License-Identifier: Apache-2.0 */
/* lookup.c - see lookup.h. */
#include <errno.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/lookup.h"

static int step(struct bale_meta *m, uint64_t dir, const char *name, size_t len,
		uint64_t *ret)
{
	uint8_t key[BALE_KEY_MAX];
	struct bale_disk_dirent d;
	be64 k = be64_put(dir);
	size_t got;
	int r;

	if (len > BALE_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(key, &k, 8);
	memcpy(key + 8, name, len);
	r = bale_meta_get(m, BALE_TABLE_dirent, key, 8 + len, &d, sizeof(d),
			  &got);
	if (!r)
		*ret = le64_get(d.ino);
	return r;
}

int bale_path_to_ino(struct bale_meta *m, const char *path, uint64_t *ret)
{
	uint64_t ino = BALE_ROOT_INO;

	if (!bale_number_parse(path, ret))
		return 0;
	while (*path) {
		size_t len = strcspn(path, "/");
		int r = 0;

		if (len && !(len == 1 && *path == '.'))
			r = step(m, ino, path, len, &ino);
		if (r)
			return r;
		path += len + (path[len] == '/');
	}
	*ret = ino;
	return 0;
}
