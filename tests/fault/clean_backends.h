/* SPDX-License-Identifier: Apache-2.0 */
/* clean_backends.h - the load's files in an open filesystem, or on a mount. */
#ifndef BALE_TESTS_CLEAN_BACKENDS_H
#define BALE_TESTS_CLEAN_BACKENDS_H

#include "clean_load.h"
#include "fs/inode/inode.h"

extern struct bale_fs *load_fs; /* of load_core */
extern const struct load_ops load_core;
extern int load_dir_fd; /* of load_mount: a directory of the mount */
extern const struct load_ops load_mount;

#endif
