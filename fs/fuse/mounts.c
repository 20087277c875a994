/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/fuse/mounts.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "fs/base/mem.h"

extern char **environ;

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' &&
		    s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
					(s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

struct line {
	struct bale_mount_info info;
	bool ours;
};

/* "36 35 98:0 /root /mnt opts [tags] - type source superopts" */
static bool parse_line(char *text, struct line *ret)
{
	char *save = NULL, *field[6], *dash = strstr(text, " - ");
	char *type, *source;

	if (!dash)
		return false;
	*dash = '\0';
	for (int n = 0; n < 5; n++) {
		field[n] = strtok_r(n ? NULL : text, " ", &save);
		if (!field[n])
			return false;
	}
	type = strtok_r(dash + 3, " ", &save);
	source = type ? strtok_r(NULL, " ", &save) : NULL;
	if (!source ||
	    sscanf(field[2], "%u:%u", &ret->info.dev_major,
		   &ret->info.dev_minor) != 2)
		return false;
	unescape(field[4]);
	unescape(source);
	snprintf(ret->info.mnt, sizeof(ret->info.mnt), "%s", field[4]);
	snprintf(ret->info.store, sizeof(ret->info.store), "%s", source);
	ret->ours = !strcmp(type, "fuse.balefs");
	return true;
}

typedef bool match_fn(const struct line *l, const void *arg);

/* The last line that matches: of mounts at one place it is the topmost. */
static int find(match_fn *match, const void *arg, struct line *ret)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bale_autofree struct line *l = malloc(sizeof(*l));
	bale_autofree char *text = NULL;
	size_t cap = 0;
	int err = -ENOENT;

	if (!f || !l) {
		err = f ? -ENOMEM : -errno;
	} else {
		while (getline(&text, &cap, f) > 0) {
			if (parse_line(text, l) && match(l, arg)) {
				*ret = *l;
				err = 0;
			}
		}
	}
	if (f)
		fclose(f);
	return err;
}

static bool is_at(const struct line *l, const void *arg)
{
	return !strcmp(l->info.mnt, arg);
}

static bool is_of_store(const struct line *l, const void *arg)
{
	return l->ours && !strcmp(l->info.store, arg);
}

static bool is_of_device(const struct line *l, const void *arg)
{
	const unsigned int *dev = arg;

	return l->info.dev_major == dev[0] && l->info.dev_minor == dev[1];
}

static int find_info(match_fn *match, const void *arg,
		     struct bale_mount_info *ret)
{
	bale_autofree struct line *l = malloc(sizeof(*l));
	int err;

	if (!l)
		return -ENOMEM;
	err = find(match, arg, l);
	if (!err && !l->ours)
		err = -EINVAL;
	if (!err)
		*ret = l->info;
	return err;
}

int bale_mounts_at(const char *mnt, struct bale_mount_info *ret)
{
	return find_info(is_at, mnt, ret);
}

int bale_mounts_of_store(const char *store, struct bale_mount_info *ret)
{
	return find_info(is_of_store, store, ret);
}

int bale_mounts_of_device(unsigned int dev_major, unsigned int dev_minor,
			  struct bale_mount_info *ret)
{
	const unsigned int dev[2] = { dev_major, dev_minor };

	return find_info(is_of_device, dev, ret);
}

static int fusermount(const char *mnt, bool lazy)
{
	char *argv[7] = { "fusermount3", "-u", "-q" };
	int n = 3, status;
	pid_t pid;

	if (lazy)
		argv[n++] = "-z";
	argv[n++] = "--";
	argv[n++] = (char *)mnt;
	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		return -EPERM;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBUSY;
}

int bale_mounts_unmount(const char *mnt, bool lazy, bool force)
{
	int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0) |
		    (force ? MNT_FORCE : 0);

	if (!umount2(mnt, flags))
		return 0;
	if (errno != EPERM)
		return -errno;
	return fusermount(mnt, lazy);
}
