/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - see json.h. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "tools/json.h"

/* Length of the UTF-8 sequence at s (no surrogates, no overlong forms), or 0.
 */
static size_t utf8_len(const unsigned char *s, size_t left)
{
	size_t len = s[0] < 0x80 ? 1 :
		     s[0] < 0xc2 ? 0 :
		     s[0] < 0xe0 ? 2 :
		     s[0] < 0xf0 ? 3 :
		     s[0] < 0xf5 ? 4 :
				   0;

	if (len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

static void put_string(FILE *f, const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;

	fputc('"', f);
	while (len) {
		size_t n = utf8_len(p, len);

		if (*p == '"' || *p == '\\')
			fprintf(f, "\\%c", *p);
		else if (!n || *p < 0x20 || *p == 0x7f)
			fprintf(f, "\\u%04x", *p);
		else
			fwrite(p, 1, n, f);
		p += n ? n : 1;
		len -= n ? n : 1;
	}
	fputc('"', f);
}

static void put_key(struct bale_json *j, const char *key)
{
	if (j->used[j->depth])
		fputc(',', j->f);
	j->used[j->depth] = true;
	fprintf(j->f, "\n%*s", (int)j->depth * 2 + 2, "");
	if (key) {
		put_string(j->f, key, strlen(key));
		fputs(": ", j->f);
	}
}

static void enter(struct bale_json *j, const char *key, char open, char close)
{
	put_key(j, key);
	fputc(open, j->f);
	assert(j->depth + 1 < sizeof(j->close));
	j->depth++;
	j->used[j->depth] = false;
	j->close[j->depth] = close;
}

void bale_json_open(struct bale_json *j, FILE *f)
{
	memset(j, 0, sizeof(*j));
	j->f = f;
	fputc('{', f);
}

void bale_json_close(struct bale_json *j)
{
	while (j->depth)
		bale_json_end(j);
	fputs("\n}\n", j->f);
}

void bale_json_object(struct bale_json *j, const char *key)
{
	enter(j, key, '{', '}');
}

void bale_json_array(struct bale_json *j, const char *key)
{
	enter(j, key, '[', ']');
}

void bale_json_end(struct bale_json *j)
{
	assert(j->depth);
	if (j->used[j->depth])
		fprintf(j->f, "\n%*s", (int)j->depth * 2, "");
	fputc(j->close[j->depth], j->f);
	j->depth--;
}

void bale_json_bytes(struct bale_json *j, const char *key, const char *s,
		     size_t len)
{
	put_key(j, key);
	put_string(j->f, s, len);
}

void bale_json_str(struct bale_json *j, const char *key, const char *s)
{
	bale_json_bytes(j, key, s, strlen(s));
}

void bale_json_u64(struct bale_json *j, const char *key, uint64_t v)
{
	put_key(j, key);
	fprintf(j->f, "%" PRIu64, v);
}

void bale_json_i64(struct bale_json *j, const char *key, int64_t v)
{
	put_key(j, key);
	fprintf(j->f, "%" PRId64, v);
}

void bale_json_bool(struct bale_json *j, const char *key, bool v)
{
	put_key(j, key);
	fputs(v ? "true" : "false", j->f);
}

void bale_json_ratio(struct bale_json *j, const char *key, double v)
{
	put_key(j, key);
	fprintf(j->f, "%.3f", v);
}
