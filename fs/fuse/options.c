/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/fuse/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/mem.h"

enum { BALE_WAIT_DEFAULT_MS = 30000 };

void bale_mount_options_init(struct bale_mount_options *o)
{
	*o = (struct bale_mount_options){
		.default_permissions = true,
		.wait_ms = BALE_WAIT_DEFAULT_MS,
	};
}

/* "64M" -> bytes; digits with at most one of K M G T. */
static int parse_size(const char *text, uint64_t min, uint64_t max,
		      uint64_t *ret)
{
	static const char units[] = "KMGT";
	char *end;
	unsigned long long v;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	if (*end) {
		const char *u = strchr(units, toupper((unsigned char)*end));
		unsigned int shift;

		if (!u || end[1])
			return -EINVAL;
		shift = 10 * (unsigned int)(u - units + 1);
		if (v > UINT64_MAX >> shift)
			return -EINVAL;
		v <<= shift;
	}
	if (v < min || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int parse_uint(const char *text, unsigned int min, unsigned int max,
		      unsigned int *ret)
{
	uint64_t v;
	size_t len = strlen(text);

	if (!len || !isdigit((unsigned char)text[len - 1]) ||
	    parse_size(text, min, max, &v))
		return -EINVAL;
	*ret = (unsigned int)v;
	return 0;
}

/* Seconds with a fraction, for commit=0.05 in tests. */
static int parse_seconds(const char *text, double min, double max,
			 double *ret)
{
	char *end;
	double v;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	v = strtod(text, &end);
	if (*end || !isfinite(v) || v < min || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int set_cache(struct bale_mount_options *o, const char *v)
{
	return parse_size(v, 1 << 20, (uint64_t)1 << 50, &o->cache_bytes);
}

static int set_bale(struct bale_mount_options *o, const char *v)
{
	return parse_size(v, 64 << 10, (uint64_t)1 << 30, &o->bale_bytes);
}

static int set_commit(struct bale_mount_options *o, const char *v)
{
	double s;

	if (parse_seconds(v, 0.01, 3600, &s))
		return -EINVAL;
	o->commit_ns = (uint64_t)(s * 1e9);
	return 0;
}

static int set_wait(struct bale_mount_options *o, const char *v)
{
	double s;

	if (parse_seconds(v, 0, 3600, &s))
		return -EINVAL;
	o->wait_ms = (unsigned int)(s * 1e3);
	return 0;
}

static int set_threads(struct bale_mount_options *o, const char *v)
{
	return parse_uint(v, 1, 1024, &o->threads);
}

static int set_max_threads(struct bale_mount_options *o, const char *v)
{
	return parse_uint(v, 1, 1024, &o->max_threads);
}

static int set_max_background(struct bale_mount_options *o, const char *v)
{
	return parse_uint(v, 1, 65535, &o->max_background);
}

static int set_codec(struct bale_mount_options *o, const char *v)
{
	int err = bale_codec_policy_parse(v, &o->policy);

	if (!err)
		o->has_policy = true;
	return err;
}

static int set_gpu(struct bale_mount_options *o, const char *v)
{
	return bale_gpu_options_parse(v, &o->gpu);
}

static int set_gpu_mem(struct bale_mount_options *o, const char *v)
{
	return parse_size(v, 64 << 20, (uint64_t)1 << 40, &o->gpu.mem_bytes);
}

static int set_gpu_share(struct bale_mount_options *o, const char *v)
{
	return parse_uint(v, 1, 100, &o->gpu.share);
}

static int set_io(struct bale_mount_options *o, const char *v)
{
	static const char *const names[] = { "cached", "direct", "auto" };

	for (unsigned int n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		if (!strcmp(v, names[n])) {
			o->io = (enum bale_io_mode)n;
			return 0;
		}
	}
	return -EINVAL;
}

/* Options with a value. */
static const struct {
	const char *name;
	int (*set)(struct bale_mount_options *o, const char *v);
	const char *expects;
} valued[] = {
	{ "cache", set_cache, "a size from 1M, such as 512M" },
	{ "bale", set_bale, "a size from 64K to 1G" },
	{ "commit", set_commit, "seconds from 0.01 to 3600" },
	{ "wait", set_wait, "seconds from 0 to 3600" },
	{ "threads", set_threads, "a number from 1 to 1024" },
	{ "max_threads", set_max_threads, "a number from 1 to 1024" },
	{ "max_background", set_max_background, "a number from 1 to 65535" },
	{ "codec", set_codec, "auto, raw, lz4, gdeflate[:level] or zstd[:level]" },
	{ "io", set_io, "cached, direct or auto" },
	{ "gpu", set_gpu, "auto, off or device numbers such as 0+1" },
	{ "gpu_mem", set_gpu_mem, "a size from 64M" },
	{ "gpu_share", set_gpu_share, "a percentage from 1 to 100" },
};

/* Options that are there or not: offset of the field and what it becomes. */
#define FLAG(name, field, value) \
	{ name, offsetof(struct bale_mount_options, field), value }
static const struct {
	const char *name;
	size_t field;
	bool value;
} flags[] = {
	FLAG("ro", read_only, true),
	FLAG("rw", read_only, false),
	FLAG("untrusted", untrusted, true),
	FLAG("allow_other", allow_other, true),
	FLAG("default_permissions", default_permissions, true),
	FLAG("no_default_permissions", default_permissions, false),
	FLAG("suid", suid, true),
	FLAG("nosuid", suid, false),
	FLAG("dev", dev, true),
	FLAG("nodev", dev, false),
	FLAG("noexec", noexec, true),
	FLAG("exec", noexec, false),
	FLAG("sync", sync, true),
	FLAG("async", sync, false),
	FLAG("dirsync", dirsync, true),
	FLAG("foreground", foreground, true),
	FLAG("debug", debug, true),
#ifdef HAVE_FUSE_STATX /* of the same age */
	FLAG("io_uring", io_uring, true),
#endif
#ifdef HAVE_TEST_SHUTDOWN
	FLAG("test_shutdown", test_shutdown, true),
#endif
};
#undef FLAG

static const struct {
	const char *name;
	int atime;
} atimes[] = {
	{ "relatime", 0 },    { "norelatime", 2 },    { "atime", 0 },
	{ "noatime", 1 },     { "nostrictatime", 0 }, { "strictatime", 2 },
	{ "diratime", 0 },
};

/* What fstab lines carry for mount(8), systemd and the boot scripts. */
static bool is_for_others(const char *opt)
{
	static const char *const names[] = {
		"defaults", "auto",  "noauto",	"nofail", "user",
		"nouser",   "users", "nousers", "owner",  "noowner",
		"group",    "nogroup", "_netdev", "loud", "silent",
	};
	static const char *const prefixes[] = { "x-", "X-", "comment=",
						"user=", "helper=",
						"uhelper=" };

	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
		if (!strcmp(opt, names[n]))
			return true;
	for (size_t n = 0; n < sizeof(prefixes) / sizeof(prefixes[0]); n++)
		if (!strncmp(opt, prefixes[n], strlen(prefixes[n])))
			return true;
	return false;
}

static bool parse_plain(struct bale_mount_options *o, const char *opt)
{
	for (size_t n = 0; n < sizeof(flags) / sizeof(flags[0]); n++) {
		if (!strcmp(opt, flags[n].name)) {
			*(bool *)((char *)o + flags[n].field) = flags[n].value;
			return true;
		}
	}
	for (size_t n = 0; n < sizeof(atimes) / sizeof(atimes[0]); n++) {
		if (!strcmp(opt, atimes[n].name)) {
			o->atime = atimes[n].atime;
			return true;
		}
	}
	return is_for_others(opt);
}

static int parse_one(struct bale_mount_options *o, char *opt, char *err,
		     size_t err_cap)
{
	char *eq;

	if (parse_plain(o, opt))
		return 0;
	eq = strchr(opt, '=');
	if (eq)
		*eq = '\0';
	for (size_t n = 0; n < sizeof(valued) / sizeof(valued[0]); n++) {
		if (strcmp(opt, valued[n].name))
			continue;
		if (eq && !valued[n].set(o, eq + 1))
			return 0;
		snprintf(err, err_cap, "option %s%s%s: expected %s", opt,
			 eq ? "=" : "", eq ? eq + 1 : "", valued[n].expects);
		return -EINVAL;
	}
	snprintf(err, err_cap, "unknown mount option %s%s%s", opt,
		 eq ? "=" : "", eq ? eq + 1 : "");
	return -EINVAL;
}

int bale_mount_options_parse(struct bale_mount_options *o, const char *list,
			     char *err, size_t err_cap)
{
	bale_autofree char *copy = strdup(list);
	char *save = NULL;
	int res = 0;

	if (!copy)
		return -ENOMEM;
	for (char *opt = strtok_r(copy, ",", &save); opt && !res;
	     opt = strtok_r(NULL, ",", &save))
		res = parse_one(o, opt, err, err_cap);
	return res;
}

int bale_mount_options_check(const struct bale_mount_options *o, char *err,
			     size_t err_cap)
{
	if (o->allow_other && !o->default_permissions) {
		snprintf(err, err_cap,
			 "allow_other needs default_permissions: without it "
			 "every user could do anything");
		return -EINVAL;
	}
	if ((o->suid || o->dev) && geteuid() != 0) {
		snprintf(err, err_cap, "option %s is for root only",
			 o->suid ? "suid" : "dev");
		return -EPERM;
	}
	return 0;
}
