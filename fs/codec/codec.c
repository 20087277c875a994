/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/codec/codec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "balefs/unit.h"
#include "fs/base/crc32c.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/filter.h"

/* Indexed by id; a NULL is a codec that is reserved and not built. */
static const struct bale_codec *const codecs[BALE_CODEC_NR] = {
	[BALE_CODEC_raw] = &bale_codec_raw,
	[BALE_CODEC_fill] = &bale_codec_fill,
	[BALE_CODEC_lz4] = &bale_codec_lz4,
	[BALE_CODEC_gdeflate] = &bale_codec_gdeflate,
	[BALE_CODEC_zstd] = &bale_codec_zstd,
};

static const char *const codec_names[BALE_CODEC_NR] = {
#define X(id, name, levels) [id] = #name,
	BALE_CODECS(X)
#undef X
};

static const bool codec_levels[BALE_CODEC_NR] = {
#define X(id, name, levels) [id] = levels,
	BALE_CODECS(X)
#undef X
};

static const char *const reason_texts[] = {
#define X(id, name, text) [id] = text,
	BALE_RAW_REASONS(X)
#undef X
};

enum {
	/* Below this no coder's own framing is earned back, save fill's. */
	SMALL_MAX = 64,
	/* Below this the probe costs more than zstd giving up. */
	PROBE_MIN = 32 << 10,
};

const char *bale_codec_name(unsigned int id)
{
	if (id == BALE_CODEC_auto)
		return "auto";
	return id < BALE_CODEC_NR ? codec_names[id] : "?";
}

const char *bale_raw_reason_text(unsigned int reason)
{
	if (reason >= sizeof(reason_texts) / sizeof(reason_texts[0]))
		return "?";
	return reason_texts[reason];
}

const struct bale_codec *bale_codec_get(unsigned int id)
{
	return id < BALE_CODEC_NR ? codecs[id] : NULL;
}

/* Raw bytes and patterns are told apart by what they are, not by a coder. */
static bool can_filter(unsigned int codec)
{
	return codec < BALE_CODEC_NR && codec != BALE_CODEC_raw &&
	       codec != BALE_CODEC_fill;
}

bool bale_codec_known(unsigned int codec, unsigned int filter)
{
	if (filter && !can_filter(codec))
		return false;
	return bale_filter_known(filter) && bale_codec_get(codec);
}

static bool has_level(unsigned int id, int level)
{
	return level >= codecs[id]->level_min && level <= codecs[id]->level_max;
}

/* A decimal number of at most 2 digits that is a level of the codec, and
 * nothing after it. */
static int parse_level(unsigned int id, const char *text, int8_t *ret)
{
	bool neg = *text == '-';
	int v = 0;

	text += neg;
	if (!*text || strlen(text) > 2)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		v = v * 10 + (*text - '0');
	}
	if (neg)
		v = -v;
	if (!v || !has_level(id, v))
		return -EINVAL;
	*ret = (int8_t)v;
	return 0;
}

static int parse_codec(const char *text, struct bale_codec_policy *ret)
{
	struct bale_codec_policy p = { 0 };
	const char *colon = strchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : strlen(text);
	unsigned int id;

	if (!strcmp(text, "auto")) {
		*ret = (struct bale_codec_policy){ .codec = BALE_CODEC_auto };
		return 0;
	}
	for (id = 0; id < BALE_CODEC_NR; id++)
		if (strlen(codec_names[id]) == len &&
		    !memcmp(codec_names[id], text, len))
			break;
	/* fill is found, never asked for. */
	if (id == BALE_CODEC_NR || id == BALE_CODEC_fill ||
	    (colon && !codec_levels[id]))
		return -EINVAL;
	if (!codecs[id])
		return -EOPNOTSUPP;
	p.codec = (uint8_t)id;
	if (colon) {
		int r = parse_level(id, colon + 1, &p.level);

		if (r)
			return r;
	}
	*ret = p;
	return 0;
}

/* CODEC[:LEVEL][+FILTER] */
int bale_codec_policy_parse(const char *text, struct bale_codec_policy *ret)
{
	const char *plus = strchr(text, '+');
	size_t len = plus ? (size_t)(plus - text) : strlen(text);
	struct bale_codec_policy p;
	char codec[32];
	int r;

	if (len >= sizeof(codec))
		return -EINVAL;
	memcpy(codec, text, len);
	codec[len] = 0;
	r = parse_codec(codec, &p);
	if (r)
		return r;
	if (plus) {
		r = bale_filter_parse(plus + 1, &p.filter);
		/* One way to say a thing: no filter is no '+'. */
		if (r || !p.filter || !can_filter(p.codec))
			return -EINVAL;
	}
	*ret = p;
	return 0;
}

bool bale_codec_policy_valid(struct bale_codec_policy p)
{
	if (p.codec == BALE_CODEC_auto)
		return !p.level && !p.filter;
	if (p.codec >= BALE_CODEC_NR || p.codec == BALE_CODEC_fill ||
	    !codecs[p.codec])
		return false;
	if (p.level && (!codec_levels[p.codec] || !has_level(p.codec, p.level)))
		return false;
	return !p.filter || bale_codec_known(p.codec, p.filter);
}

void bale_codec_policy_text(struct bale_codec_policy p, char *buf, size_t cap)
{
	char level[8] = "";

	if (p.level && p.codec < BALE_CODEC_NR && codec_levels[p.codec])
		snprintf(level, sizeof(level), ":%d", p.level);
	snprintf(buf, cap, "%s%s%s%s", bale_codec_name(p.codec), level,
		 p.filter ? "+" : "",
		 p.filter ? bale_filter_name(p.filter) : "");
}

size_t bale_codec_bound(size_t len)
{
	size_t max = 0;

	for (unsigned int id = 0; id < BALE_CODEC_NR; id++) {
		size_t n = codecs[id] ? codecs[id]->bound(len) : 0;

		if (n > max)
			max = n;
	}
	return max;
}

static void clear_results(struct bale_job *job)
{
	job->len = 0;
	job->ret_codec = BALE_CODEC_raw;
	job->ret_filter = 0;
	job->ret_level = 0;
	job->reason = BALE_RAW_none;
	job->has_crc = false;
}

static void stay_raw(struct bale_job *job, enum bale_raw_reason reason)
{
	job->ret_codec = BALE_CODEC_raw;
	job->len = job->src_len;
	job->reason = (uint8_t)reason;
}

static int check_encode(const struct bale_job *job)
{
	if (job->src_len > BALE_EXTENT_MAX ||
	    job->dst_cap < bale_codec_bound(job->src_len))
		return -EINVAL;
	if (job->codec == BALE_CODEC_auto)
		return job->filter && job->filter != BALE_FILTER_auto ?
			       -EINVAL :
			       0;
	if (job->filter &&
	    (!bale_filter_known(job->filter) || !can_filter(job->codec)))
		return -EINVAL;
	if (job->codec >= BALE_CODEC_NR)
		return -EINVAL;
	if (!codecs[job->codec])
		return -EOPNOTSUPP;
	if (codec_levels[job->codec] && !has_level(job->codec, job->level))
		return -EINVAL;
	return 0;
}

/* A fill replaces data under every policy: it costs nothing to read back. All
 * zero counts at any length, because it becomes a hole. */
static bool try_fill(struct bale_job *job)
{
	uint8_t *dst = job->dst;
	size_t n;

	if (bale_codec_fill.encode(NULL, job->src, job->src_len, dst,
				   job->src_len, 0, &n))
		return false;
	if (n == job->src_len && !(n == 1 && !dst[0]))
		return false;
	job->ret_codec = BALE_CODEC_fill;
	job->len = n;
	return true;
}

/* 0, or -errno as the codec's encode(). */
static int encode_as(struct bale_codec_ctx *ctx, struct bale_job *job,
		     unsigned int id, int level, unsigned int filter)
{
	const uint8_t *src = job->src;
	size_t n;
	int r;

	if (!level)
		level = codecs[id]->level_default;
	if (filter) {
		r = bale_codec_ctx_need_filtered(ctx, job->src_len);
		if (r)
			return r;
		bale_filter_forward(filter, src, job->src_len,
				    ctx->filtered);
		src = ctx->filtered;
	}
	r = codecs[id]->encode(ctx, src, job->src_len, job->dst,
			       bale_extent_worth(job->src_len), level, &n);
	if (r)
		return r;
	job->ret_codec = (uint8_t)id;
	job->ret_filter = (uint8_t)filter;
	job->ret_level = codec_levels[id] ? (int8_t)level : 0;
	job->len = n;
	return 0;
}

static int encode_auto(struct bale_codec_ctx *ctx, struct bale_job *job)
{
	enum bale_probe_verdict v = BALE_PROBE_ZSTD;
	unsigned int filter = 0;
	int r;

	if (job->filter == BALE_FILTER_auto)
		filter = bale_filter_choose(ctx, job->src, job->src_len);
	/* The probe knows nothing of planes. */
	if (job->src_len >= PROBE_MIN && !filter)
		v = bale_codec_probe(ctx, job->src, job->src_len);
	if (v == BALE_PROBE_RAW) {
		stay_raw(job, BALE_RAW_probe);
		return 0;
	}
	r = encode_as(ctx, job, BALE_CODEC_zstd, BALE_ZSTD_LEVEL_AUTO, filter);
	/* zstd's fast levels look for 6 bytes and more, lz4 for 4: tables of
	   32-bit values from a small set shrink only by the latter. */
	if (r == -ENOSPC && v == BALE_PROBE_REPEATS)
		r = encode_as(ctx, job, BALE_CODEC_lz4, 0, 0);
	return r;
}

void bale_codec_checksum(struct bale_job *job)
{
	bool raw = job->ret_codec == BALE_CODEC_raw;

	job->crc = bale_crc32c(0, raw ? job->src : job->dst, job->len);
	job->has_crc = true;
}

bool bale_codec_settle(struct bale_job *job)
{
	clear_results(job);
	job->status = check_encode(job);
	if (job->status || (job->src_len && try_fill(job)))
		return true;
	if (job->codec != BALE_CODEC_raw && job->src_len >= SMALL_MAX)
		return false;
	stay_raw(job, job->codec == BALE_CODEC_raw ? BALE_RAW_policy :
						     BALE_RAW_small);
	return true;
}

static int run_encode(struct bale_job *job)
{
	struct bale_codec_ctx *ctx;
	int r;

	if (bale_codec_settle(job))
		return job->status;
	ctx = bale_codec_ctx_get();
	if (!ctx)
		r = -ENOMEM;
	else if (job->codec == BALE_CODEC_auto)
		r = encode_auto(ctx, job);
	else if (job->codec == BALE_CODEC_fill)
		r = -ENOSPC;
	else
		r = encode_as(ctx, job, job->codec, job->level, job->filter);
	if (r)
		stay_raw(job, r == -ENOSPC ? BALE_RAW_grew : BALE_RAW_error);
	return 0;
}

static int run_decode(struct bale_job *job)
{
	const struct bale_codec *codec = bale_codec_get(job->codec);
	struct bale_codec_ctx *ctx;
	uint8_t *dst = job->dst;
	int r;

	if (!bale_codec_known(job->codec, job->filter))
		return -EOPNOTSUPP;
	/* Nothing is only ever nothing; codecs need not think of it. */
	if (!job->dst_cap)
		return job->codec == BALE_CODEC_raw && !job->src_len ? 0 :
								       -EUCLEAN;
	ctx = bale_codec_ctx_get();
	if (!ctx)
		return -ENOMEM;
	if (job->filter) {
		if (job->dst_cap > BALE_EXTENT_MAX)
			return -EUCLEAN;
		r = bale_codec_ctx_need_filtered(ctx, job->dst_cap);
		if (r)
			return r;
		dst = ctx->filtered;
	}
	r = codec->decode(ctx, job->src, job->src_len, dst, job->dst_cap);
	if (r)
		return r;
	if (job->filter)
		bale_filter_backward(job->filter, dst, job->dst_cap, job->dst);
	job->len = job->dst_cap;
	return 0;
}

void bale_codec_run(struct bale_job *job)
{
	clear_results(job);
	switch (job->op) {
	case BALE_JOB_ENCODE:
		job->status = run_encode(job);
		if (job->want_crc && !job->status)
			bale_codec_checksum(job);
		break;
	case BALE_JOB_DECODE:
		job->status = run_decode(job);
		break;
	default:
		job->status = -EINVAL;
	}
}
