/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/base/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void bale_autoclose_fn(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

int bale_buf_reserve(struct bale_buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 256;
	uint8_t *data;

	if (more <= b->cap - b->len)
		return 0;
	if (more > SIZE_MAX / 4 - b->len)
		return -ENOMEM;
	while (cap < b->len + more)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int bale_buf_append(struct bale_buf *b, const void *p, size_t len)
{
	int r = bale_buf_reserve(b, len);

	if (r || !len)
		return r;
	memcpy(b->data + b->len, p, len);
	b->len += len;
	return 0;
}

void bale_buf_fini(struct bale_buf *b)
{
	free(b->data);
	*b = (struct bale_buf){ 0 };
}
