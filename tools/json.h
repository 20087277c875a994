/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - a JSON writer: keeps track of commas, escapes strings. Bytes that
 * are not UTF-8 become \u00xx, so that any file name can be written. No
 * allocation; nesting at most 8 deep. Keys are NULL inside arrays.
 */
#ifndef BALE_TOOLS_JSON_H
#define BALE_TOOLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct bale_json {
	FILE *f;
	unsigned int depth;
	bool used[8]; /* the level has an element: a comma comes first */
	char close[8];
};

void bale_json_open(struct bale_json *j, FILE *f); /* the outer object */
void bale_json_close(struct bale_json *j);
void bale_json_object(struct bale_json *j, const char *key);
void bale_json_array(struct bale_json *j, const char *key);
void bale_json_end(struct bale_json *j);
void bale_json_bytes(struct bale_json *j, const char *key, const char *s,
		     size_t len);
void bale_json_str(struct bale_json *j, const char *key, const char *s);
void bale_json_u64(struct bale_json *j, const char *key, uint64_t v);
void bale_json_i64(struct bale_json *j, const char *key, int64_t v);
void bale_json_bool(struct bale_json *j, const char *key, bool v);
void bale_json_ratio(struct bale_json *j, const char *key, double v);

#endif
