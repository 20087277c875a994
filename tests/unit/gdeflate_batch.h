/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_batch.h - batches for the GDeflate kernels on the emulated device:
 * sources and destinations between guard pages, content of many kinds, tiles
 * written slot by slot. One thread.
 */
#ifndef BALE_TESTS_GDEFLATE_BATCH_H
#define BALE_TESTS_GDEFLATE_BATCH_H

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "../support/gdeflate_write.h"
#include "../support/guard.h"
#include "balefs/gdeflate.h"
#include "kernels/kernels.h"

using Bytes = std::vector<uint8_t>;

/* ---- content ---- */

struct Random {
	uint64_t s;
	uint32_t next()
	{
		s = s * 6364136223846793005u + 1442695040888963407u;
		return (uint32_t)(s >> 33);
	}
	uint32_t below(uint32_t n)
	{
		return next() % n;
	}
};

/* kind: 0 zeros, 1 random, 2 text-like, 3 records, 4 few letters, 5 runs of
 * random length, 6 half random and half text. */
enum { CONTENT_KINDS = 7 };

static inline Bytes content(unsigned int kind, uint32_t len, uint64_t seed)
{
	Random r = { seed * 77 + kind };
	Bytes b(len);

	for (uint32_t i = 0; i < len; i++) {
		uint32_t v = r.next();

		switch (kind) {
		case 1:
			b[i] = (uint8_t)v;
			break;
		case 2:
			b[i] = i > 40 && v % 8 ?
				       b[i - 1 - v / 8 % 40] :
				       (uint8_t)("etaoin shrdlu"[v / 8 % 13]);
			break;
		case 3:
			b[i] = i % 16 < 9 ? (uint8_t)(i / 16) :
					    (uint8_t)(v & 3);
			break;
		case 4:
			b[i] = (uint8_t)("abcd"[v & v >> 5 & 3]);
			break;
		case 5:
			b[i] = i && v % 50 ? b[i - 1] : (uint8_t)(v / 50);
			break;
		case 6:
			b[i] = i < len / 2 ? (uint8_t)v :
					     (uint8_t)("lorem ipsum "[i % 12]);
			break;
		default:
			b[i] = 0;
		}
	}
	/* Phrases that come again, near and far. */
	if (kind == 2 || kind == 3)
		for (uint32_t at = 300; at + 300 < len;
		     at += 100 + r.below(200))
			memmove(&b[at], &b[r.below(at)], 3 + r.below(90));
	return b;
}

/* ---- batches ---- */

/* One chunk's buffers end at a guard page, or begin behind one. */
struct Chunk {
	guard src, dst;
	uint8_t *from, *to;
	uint32_t len, cap;
	uint32_t out_len, status;
};

class Batch
{
      public:
	std::vector<Chunk> chunks;

	Batch() = default;
	Batch(const Batch &) = delete;
	Batch &operator=(const Batch &) = delete;
	~Batch()
	{
		for (Chunk &c : chunks) {
			guard_fini(&c.src);
			guard_fini(&c.dst);
		}
	}
	/* shift < 0: both end at guards; else they begin so far behind one. */
	void add(const Bytes &src, uint32_t cap, int shift = -1)
	{
		Chunk c = {};
		uint32_t room = shift > 0 ? (uint32_t)shift : 0;

		c.len = (uint32_t)src.size();
		c.cap = cap;
		guard_init(&c.src, c.len + room);
		guard_init(&c.dst, cap + room);
		c.from = shift < 0 ? guard_high(&c.src, c.len) :
				     guard_low(&c.src, c.len) + shift;
		c.to = shift < 0 ? guard_high(&c.dst, cap) :
				   guard_low(&c.dst, cap) + shift;
		if (c.len)
			memcpy(c.from, src.data(), c.len);
		memset(c.dst.map + GUARD_PAGE, 0xc5, c.dst.cap);
		chunks.push_back(c);
	}
	/* Bytes of a page that lie outside the destination are as they were. */
	bool intact() const
	{
		for (const Chunk &c : chunks) {
			const uint8_t *p = c.dst.map + GUARD_PAGE;

			for (size_t i = 0; i < c.dst.cap; i++)
				if ((p + i < c.to || p + i >= c.to + c.cap) &&
				    p[i] != 0xc5)
					return false;
		}
		return true;
	}
	int encode(int level)
	{
		return call(
			[=](const bale_chunks *c) {
				return bale_gdeflate_encode(level, c);
			},
			bale_gdeflate_encode_temp(level, chunks.size(),
						  BALE_UNIT_SIZE));
	}
	int decode()
	{
		return call(bale_gdeflate_decode, 0);
	}
	int decoded_len()
	{
		return call(bale_gdeflate_decoded_len, 0);
	}

      private:
	template <typename F> int call(F f, size_t temp_len)
	{
		size_t nr = chunks.size();
		std::vector<const void *> src(nr);
		std::vector<void *> dst(nr);
		std::vector<uint32_t> len(nr), cap(nr), out(nr, 99), st(nr, 99);
		bale_chunks c = {};
		void *temp = nullptr;
		int r;

		for (size_t i = 0; i < nr; i++) {
			src[i] = chunks[i].from;
			dst[i] = chunks[i].to;
			len[i] = chunks[i].len;
			cap[i] = chunks[i].cap;
		}
		if (temp_len && cudaMalloc(&temp, temp_len) != cudaSuccess)
			abort();
		c.nr = nr;
		c.src = src.data();
		c.src_len = len.data();
		c.dst = dst.data();
		c.dst_cap = cap.data();
		c.dst_len = out.data();
		c.status = st.data();
		c.max_chunk = BALE_UNIT_SIZE;
		c.temp = (uint8_t *)temp;
		c.temp_len = temp_len;
		r = f(&c);
		for (size_t i = 0; i < nr; i++) {
			chunks[i].out_len = out[i];
			chunks[i].status = st[i];
		}
		cudaFree(temp);
		return r;
	}
};

/* ---- tiles by hand ---- */

/* Codes for all symbols: nearly flat ones, or such that some reach 15 bits. */
struct Codes {
	uint8_t lens[286 + 32];
	uint16_t litlen[286], dist[32];

	explicit Codes(bool skewed)
	{
		for (uint32_t i = 0; i < 286; i++)
			lens[i] = i < 226 ? 8 : 9;
		for (uint32_t i = 0; i < 32; i++)
			lens[286 + i] = 5;
		if (skewed) {
			/* 1/2 + 1/4 + ... + 1/64 and the rest within 1/64: 280
			 * symbols of 14 and 15 bits. */
			for (uint32_t i = 0; i < 286; i++)
				lens[i] = i < 232 ? 14 : 15;
			lens[' '] = 1, lens['e'] = 2, lens['a'] = 3;
			lens[256] = 4, lens[257] = 5, lens[285] = 6;
			fill_up();
			for (uint32_t i = 0; i < 15; i++)
				lens[286 + i] = (uint8_t)(i + 1);
			lens[286 + 15] = 15;
			memset(lens + 286 + 16, 0, 16);
			std::swap(lens[286 + 15], lens[286 + 30]);
			std::swap(lens[286 + 14], lens[286 + 29]);
		}
		gdw_codes(lens, 286, litlen);
		gdw_codes(lens + 286, 32, dist);
	}

      private:
	/* Shortens codes until the sum is exact. */
	void fill_up()
	{
		uint32_t sum = 0;

		for (uint32_t i = 0; i < 286; i++)
			sum += 1u << (15 - lens[i]);
		for (uint32_t i = 0; sum < 1u << 15; i = (i + 1) % 286)
			if (lens[i] > 8 &&
			    sum + (1u << (15 - lens[i])) <= 1u << 15) {
				sum += 1u << (15 - lens[i]);
				lens[i]--;
			}
		if (sum != 1u << 15)
			abort();
	}
};

/* What made tiles have in them. */
struct Made {
	uint32_t blocks[3], matches, longest;
};

/* A match, or a literal when len is 0. */
struct Token {
	uint32_t len, dist;
};

static inline void put_token(gdw *w, const Codes &c, const uint8_t *p, Token t)
{
	uint32_t i, sym, bits, dist_bits;

	if (!t.len) {
		gdw_symbol(w, c.litlen[*p], c.lens[*p], 0, 0);
		return;
	}
	i = bale_gd_len_index(t.len);
	bits = c.lens[257 + i];
	sym = bale_gd_dist_symbol(t.dist);
	dist_bits = c.lens[286 + sym];
	gdw_symbol(w, c.litlen[257 + i] | (t.len - bale_gd_len_base(i)) << bits,
		   bits + bale_gd_len_extra(i),
		   c.dist[sym] | (t.dist - bale_gd_dist_base(sym)) << dist_bits,
		   dist_bits + bale_gd_dist_extra(sym));
}

/* Greedy, by the last place of three bytes. */
static inline Token find_token(const Bytes &b, uint32_t at,
			       std::vector<int32_t> *heads, const Codes &c)
{
	Token t = { 0, 0 };
	uint32_t hash;
	int32_t head;

	if (at + 3 > b.size())
		return t;
	hash = (b[at] * 0x9e5fu ^ b[at + 1] * 0x1f3u ^ b[at + 2]) & 0xffff;
	head = (*heads)[hash];
	(*heads)[hash] = (int32_t)at;
	if (head < 0)
		return t;
	while (at + t.len < b.size() &&
	       b[at + t.len] == b[(uint32_t)head + t.len])
		t.len++;
	t.dist = at - (uint32_t)head;
	if (t.len < 3 || !c.lens[286 + bale_gd_dist_symbol(t.dist)])
		t.len = 0;
	return t;
}

/* The codes of a static block, of the symbols that are used. */
static inline Codes static_codes()
{
	uint8_t lens[BALE_GD_LITLEN_NR];
	uint16_t codes[BALE_GD_LITLEN_NR];
	Codes c(false);

	for (uint32_t i = 0; i < BALE_GD_LITLEN_NR; i++)
		lens[i] = (uint8_t)bale_gd_static_litlen_bits(i);
	gdw_codes(lens, BALE_GD_LITLEN_NR, codes);
	memcpy(c.lens, lens, sizeof(c.litlen) / 2);
	memcpy(c.litlen, codes, sizeof(c.litlen));
	return c;
}

/* A tile in the making, for the lines of a test. */
struct Writer {
	std::vector<uint32_t> words;
	gdw w;

	explicit Writer(size_t room = 20000) : words(room)
	{
		gdw_init(&w, words.data(), (uint32_t)room);
	}
	void put(const Codes &c, uint32_t literal)
	{
		gdw_symbol(&w, c.litlen[literal], c.lens[literal], 0, 0);
	}
	void put(const Codes &c, Token t)
	{
		put_token(&w, c, nullptr, t);
	}
	void end(const Codes &c)
	{
		put(c, BALE_GD_END);
		gdw_block_end(&w);
	}
	Bytes tile() const
	{
		Bytes b(gdw_len(&w));

		memcpy(b.data(), words.data(), b.size());
		return b;
	}
};

/* A tile of blocks of `block` bytes or a bit more: by turns dynamic, static
 * (with matches both) and stored, where stored is asked for. */
static inline Bytes make_tile(const Bytes &b, uint32_t block, bool skewed,
			      bool stored, Made *made)
{
	std::vector<int32_t> heads(65536, -1);
	Codes dynamic(skewed), fixed = static_codes();
	Writer out(b.size() + 4096);
	uint32_t at = 0, nr = 0;
	bool last;

	do {
		uint32_t end = (uint32_t)b.size() - at > block ?
				       at + block :
				       (uint32_t)b.size();
		uint32_t type = nr++ % 3;
		const Codes &c = type == 1 ? fixed : dynamic;

		last = end == b.size();
		if (stored && type == 2) {
			gdw_stored(&out.w, last, b.data() + at, end - at);
			made->blocks[0]++;
			at = end;
			continue;
		}
		made->blocks[type == 1 ? 1 : 2]++;
		if (type == 1)
			gdw_block(&out.w, last, BALE_GD_STATIC);
		else
			gdw_dynamic(&out.w, last, c.lens, 286, 32);
		while (at < end) {
			Token t = find_token(b, at, &heads, c);

			put_token(&out.w, c, &b[at], t);
			made->matches += t.len != 0;
			if (!t.len && c.lens[b[at]] > made->longest)
				made->longest = c.lens[b[at]];
			at += t.len ? t.len : 1;
		}
		out.end(c);
	} while (!last);
	return out.tile();
}

#endif
