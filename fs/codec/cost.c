/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/codec/cost.h"

#include <string.h>

/* How much of what one batch says is taken over: a line follows a change of
 * clocks or of neighbours within some dozen batches. */
static const double gain = 1.0 / 8;

static const char *const names[] = {
#define X(name) #name,
	BALE_COST_KIND_LIST(X)
#undef X
};

const char *bale_cost_kind_name(enum bale_cost_kind kind)
{
	return kind < BALE_COST_KINDS ? names[kind] : "?";
}

enum bale_cost_kind bale_cost_kind_of(enum bale_job_op op, unsigned int codec,
				      int level)
{
	switch (codec) {
	case BALE_CODEC_lz4:
		return BALE_COST_lz4;
	case BALE_CODEC_gdeflate:
		if (op == BALE_JOB_DECODE || level == 0 || level == 2)
			return BALE_COST_gdeflate;
		return level < 2 ? BALE_COST_gdeflate_fast :
				   BALE_COST_gdeflate_high;
	case BALE_CODEC_zstd:
	case BALE_CODEC_auto:
		return BALE_COST_zstd;
	default:
		return BALE_COST_other;
	}
}

void bale_cost_init(struct bale_cost *c)
{
	memset(&c->table, 0, sizeof(c->table));
	bale_mutex_init(&c->lock);
}

void bale_cost_fini(struct bale_cost *c)
{
	bale_mutex_fini(&c->lock);
}

double bale_cost_guess(struct bale_cost *c, enum bale_cost_side side,
		       enum bale_job_op op, enum bale_cost_kind kind,
		       size_t len)
{
	struct bale_cost_line l;

	bale_mutex_lock(&c->lock);
	l = c->table.at[side][op][kind];
	bale_mutex_unlock(&c->lock);
	return l.byte_ns > 0 ? l.fixed_ns + l.byte_ns * (double)len : -1;
}

/*
 * The error goes to the part of the line that made most of the guess: small
 * batches teach the fixed time, large ones the time per byte. Times of a
 * preempted thread can be off by any factor, so that one error counts at most
 * as the guess itself.
 */
void bale_cost_note(struct bale_cost *c, enum bale_cost_side side,
		    enum bale_job_op op, enum bale_cost_kind kind, size_t len,
		    uint64_t ns)
{
	double guess, error, moving;
	struct bale_cost_line *l;

	if (!len)
		return;
	bale_mutex_lock(&c->lock);
	l = &c->table.at[side][op][kind];
	moving = l->byte_ns * (double)len;
	guess = l->fixed_ns + moving;
	error = (double)ns - guess;
	if (error > guess)
		error = guess;
	if (l->byte_ns <= 0)
		l->byte_ns = (double)ns / (double)len;
	else if (moving >= l->fixed_ns)
		l->byte_ns += gain * error / (double)len;
	else
		l->fixed_ns += gain * error;
	if (l->fixed_ns < 0)
		l->fixed_ns = 0;
	if (l->byte_ns < 1e-4)
		l->byte_ns = 1e-4; /* 10 TB/s: below is not a time */
	bale_mutex_unlock(&c->lock);
}

void bale_cost_note_job(struct bale_cost *c, const struct bale_job *job,
			uint64_t ns)
{
	bool encode = job->op == BALE_JOB_ENCODE;

	/* Patterns and what the probe turned away took no coder's time. */
	if (job->status || (encode && (job->ret_codec == BALE_CODEC_fill ||
				       job->ret_codec == BALE_CODEC_raw)))
		return;
	bale_cost_note(c, BALE_COST_CPU, job->op,
		       bale_cost_kind_of(job->op, job->codec, job->level),
		       encode ? job->src_len : job->dst_cap, ns);
}

void bale_cost_seed(struct bale_cost *c, enum bale_cost_side side,
		    enum bale_job_op op, enum bale_cost_kind kind, size_t small,
		    uint64_t small_ns, size_t large, uint64_t large_ns)
{
	struct bale_cost_line l = { 0 };

	if (large_ns > small_ns)
		l.byte_ns =
			(double)(large_ns - small_ns) / (double)(large - small);
	/* Noise can make the small one the slower: then all is fixed but for
	 * what the large one says at least. */
	if (l.byte_ns < (double)large_ns / (double)large / 16)
		l.byte_ns = (double)large_ns / (double)large / 16;
	if (l.byte_ns < 1e-4)
		l.byte_ns = 1e-4;
	l.fixed_ns = (double)small_ns - l.byte_ns * (double)small;
	if (l.fixed_ns < 0)
		l.fixed_ns = 0;
	bale_mutex_lock(&c->lock);
	c->table.at[side][op][kind] = l;
	bale_mutex_unlock(&c->lock);
}

void bale_cost_get(struct bale_cost *c, struct bale_cost_table *ret)
{
	bale_mutex_lock(&c->lock);
	*ret = c->table;
	bale_mutex_unlock(&c->lock);
}

void bale_cost_adopt(struct bale_cost *c, const struct bale_cost_table *t,
		     enum bale_cost_side side)
{
	bale_mutex_lock(&c->lock);
	for (int op = 0; op < 2; op++)
		for (int k = 0; k < BALE_COST_KINDS; k++)
			if (t->at[side][op][k].byte_ns > 0)
				c->table.at[side][op][k] = t->at[side][op][k];
	bale_mutex_unlock(&c->lock);
}
