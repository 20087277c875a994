/* SPDX-License-Identifier: Apache-2.0 */
/* lookup.h - paths inside a store that is open but not mounted. */
#ifndef BALE_TOOLS_LOOKUP_H
#define BALE_TOOLS_LOOKUP_H

#include "fs/store/store.h"

/* "123", or "/a/b" from the root; no symbolic link is followed. -ENOENT,
 * -ENAMETOOLONG. */
int bale_path_to_ino(struct bale_meta *m, const char *path, uint64_t *ret);

#endif
