/* SPDX-License-Identifier: Apache-2.0 */
/* values.c - sizes, numbers and -o lists. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cmd.h"

int bale_number_parse(const char *text, uint64_t *ret)
{
	char *end;
	unsigned long long x;

	if (text[0] < '0' || text[0] > '9') /* no sign, no blank */
		return -EINVAL;
	errno = 0;
	x = strtoull(text, &end, text[1] == 'x' || text[1] == 'X' ? 16 : 10);
	if (*end || end == text)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*ret = x;
	return 0;
}

/* "", "K", "k", "KiB", "KB" and so on up to E: powers of 1024. */
static int unit_shift(const char *unit)
{
	static const char letters[] = "KMGTPE";
	const char *p;

	if (!*unit || !strcmp(unit, "B"))
		return 0;
	p = strchr(letters, unit[0] >= 'a' ? unit[0] - 'a' + 'A' : unit[0]);
	if (!p)
		return -EINVAL;
	if (unit[1] && strcmp(unit + 1, "iB") && strcmp(unit + 1, "B"))
		return -EINVAL;
	return 10 * (int)(p - letters + 1);
}

int bale_size_parse(const char *text, uint64_t *ret)
{
	char number[32];
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	size_t len = hex ? strlen(text) : strspn(text, "0123456789");
	uint64_t x;
	int shift, r;

	if (!len || len >= sizeof(number))
		return -EINVAL;
	memcpy(number, text, len);
	number[len] = '\0';
	r = bale_number_parse(number, &x);
	if (r)
		return r;
	shift = unit_shift(text + len);
	if (shift < 0)
		return shift;
	if (x > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = x << shift;
	return 0;
}

const char *bale_size_text(uint64_t bytes, char *buf)
{
	static const char letters[] = "KMGTPE";
	uint64_t unit = 1;
	int i = -1;

	while (i < 5 && bytes / unit >= 1024) {
		unit <<= 10;
		i++;
	}
	if (i < 0)
		snprintf(buf, BALE_SIZE_TEXT, "%d B", (int)bytes);
	else if (bytes % unit == 0)
		snprintf(buf, BALE_SIZE_TEXT, "%d %ciB", (int)(bytes / unit),
			 letters[i]);
	else
		snprintf(buf, BALE_SIZE_TEXT, "%.1f %ciB",
			 (double)bytes / (double)unit, letters[i]);
	return buf;
}

bool bale_option_next(char **list, char **ret_key, char **ret_value)
{
	char *in = *list, *out = *list;

	if (!in || !*in)
		return false;
	*ret_key = out;
	*ret_value = NULL;
	for (; *in && *in != ','; in++) {
		if (*in == '\\' && in[1]) {
			*out++ = *++in;
		} else if (*in == '=' && !*ret_value) {
			*out++ = '\0';
			*ret_value = out;
		} else {
			*out++ = *in;
		}
	}
	*list = *in ? in + 1 : in;
	*out = '\0';
	return true;
}

void bale_print_name(FILE *f, const char *s, size_t len)
{
	for (size_t k = 0; k < len; k++) {
		unsigned char c = (unsigned char)s[k];

		if (c < 0x20 || c == 0x7f || c == '\\')
			fprintf(f, "\\x%02x", c);
		else
			fputc(c, f);
	}
}
