/* SPDX-License-Identifier: Apache-2.0 */
/* salvage.h - the tree of an open filesystem, copied into a directory. */
#ifndef BALE_TOOLS_SALVAGE_H
#define BALE_TOOLS_SALVAGE_H

#include "fs/inode/inode.h"

struct bale_salvage {
	struct bale_fs *fs;
	bool owners, verbose;
	/* out */
	uint64_t copied, damaged, left_out;
};
/* dir must not exist. 0, or why writing failed; what could not be read is
 * printed and counted. */
int bale_salvage_tree(struct bale_salvage *s, const char *dir);

#endif
