// SPDX-License-Identifier: Apache-2.0
//
// The match finder's host side: what the parameters lead to, and the steps in
// order. See lz77.cuh.
#include "kernels/simt.h"
#include "kernels/lz77.cuh"

#include <errno.h>

namespace
{

constexpr size_t kAlign = 256;

struct Layout {
	size_t stride, prev, prev3, match, total; /* offsets, but for stride */
};

// Matches of 3 bytes gain 0.6 %, and take as long to find as two candidates
// more for the longer ones.
bool needs_hash3(const struct bale_lz77_params *p)
{
	return p->min_len == 3 &&
	       (p->parse == BALE_PARSE_OPTIMAL ||
		(p->parse == BALE_PARSE_LAZY && p->depth >= 8));
}

size_t add_array(size_t *total, size_t len)
{
	size_t at = *total;

	*total += (len + kAlign - 1) / kAlign * kAlign;
	return at;
}

struct Layout layout_of(const struct bale_lz77_params *p, size_t nr,
			uint32_t max_chunk)
{
	struct Layout l = {};

	l.stride = ((size_t)max_chunk + 31) / 32 * 32;
	l.prev = add_array(&l.total, nr * l.stride * sizeof(uint16_t));
	l.prev3 = l.total;
	if (needs_hash3(p))
		add_array(&l.total, nr * l.stride * sizeof(uint16_t));
	// The choice takes the place of both.
	if (p->parse == BALE_PARSE_OPTIMAL && !needs_hash3(p))
		add_array(&l.total, nr * l.stride * sizeof(uint16_t));
	l.match = add_array(&l.total,
			    nr * l.stride * sizeof(uint32_t) *
				    (p->parse == BALE_PARSE_OPTIMAL ? 2 : 1));
	return l;
}

bool params_ok(const struct bale_lz77_params *p, const struct bale_chunks *c)
{
	return p->min_len >= 3 && p->max_len >= p->min_len &&
	       p->max_len <= 0xffff && p->max_dist && p->max_dist <= 0xffff &&
	       p->depth && p->depth <= 0xffff && c->max_chunk <= 65536 &&
	       c->nr <= INT32_MAX;
}

} // namespace

size_t bale_lz77_temp(const struct bale_lz77_params *p, size_t nr,
		      uint32_t max_chunk)
{
	return layout_of(p, nr, max_chunk).total;
}

int bale_lz77_job_init(struct bale_lz77_job *job,
		       const struct bale_lz77_params *p,
		       const struct bale_chunks *c, struct bale_seq *seqs,
		       uint32_t *nr_seqs, uint8_t *temp, size_t temp_len)
{
	struct Layout l = layout_of(p, c->nr, c->max_chunk);

	if (!params_ok(p, c) || temp_len < l.total)
		return -EINVAL;
	*job = {};
	job->nr = (uint32_t)c->nr;
	job->max_chunk = c->max_chunk;
	job->src = c->src;
	job->src_len = c->src_len;
	job->dst_cap = c->dst_cap;
	job->stream = c->stream;
	job->p = *p;
	job->hash3 = needs_hash3(p);
	job->pairs = p->parse == BALE_PARSE_OPTIMAL;
	job->cap = job->pairs	   ? BALE_LZ77_CAP_OPTIMAL :
		   p->min_len == 3 ? BALE_LZ77_CAP_LAZY3 :
				     BALE_LZ77_CAP;
	job->search_threads = 1024;
	job->stride = (uint32_t)l.stride;
	job->prev = reinterpret_cast<uint16_t *>(temp + l.prev);
	if (job->hash3)
		job->prev3 = reinterpret_cast<uint16_t *>(temp + l.prev3);
	job->match = reinterpret_cast<uint32_t *>(temp + l.match);
	job->choice = reinterpret_cast<uint32_t *>(temp + l.prev);
	job->seqs = seqs;
	job->seqs_stride = (uint32_t)bale_lz77_seqs_max(c->max_chunk);
	job->nr_seqs = nr_seqs;
	return 0;
}

int bale_lz77_find(const struct bale_lz77_params *p,
		   const struct bale_chunks *c, struct bale_seq *seqs,
		   uint32_t *nr_seqs, uint8_t *temp, size_t temp_len)
{
	struct bale_lz77_job job;
	int r;

	r = bale_lz77_job_init(&job, p, c, seqs, nr_seqs, temp, temp_len);
	if (r || !job.nr)
		return r;
	r = bale_lz77_chain(&job);
	if (!r)
		r = bale_lz77_search(&job);
	if (!r)
		r = bale_lz77_parse(&job);
	if (r || p->parse != BALE_PARSE_OPTIMAL)
		return r;
	r = bale_lz77_optimal(&job);
	return r ? r : bale_lz77_take(&job);
}
