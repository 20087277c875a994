# SPDX-License-Identifier: Apache-2.0
"""Layers: a file includes its own folder and lower ranks only. The table here
must be the one that docs/architecture.md shows to people."""
import os
import re

import lint_tree

RANKS = {
    "tools": 7,
    "fs/fuse": 6,
    "fs/inode": 5,
    "fs/cache": 4,
    "fs/batch": 3,
    "fs/codec": 2,
    "fs/store": 2,
    "fs/format": 1,
    "fs/base": 0,
    "include/balefs": 0,
}
# May include nothing but these, besides their own folder.
ONLY = {
    "kernels": {"include/balefs"},
    "include/balefs": set(),
}
# Whose headers may be seen where; tests may see all.
FOREIGN = (
    (re.compile(r"(fuse3/)?(fuse|cuse)\w*\.h$"), ("fs/fuse",)),
    (re.compile(r"lmdb\.h$"), ("fs/store",)),
    (re.compile(r"(lz4|zstd|libdeflate)\w*\.h$"), ("fs/codec",)),
    (re.compile(r"(cuda|nv)\w*\.h$|cub/|thrust/"), ("kernels",)),
)
# Made by the build, for all but kernels and include/balefs.
GENERATED = {"config.h"}

# Past the list of call sites that tests look at.
DIRECT_IO = re.compile(r"\bio->ops->\w+\(")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def layer_of(path):
    folder = os.path.dirname(path)
    while folder:
        if folder in RANKS or folder in ("kernels", "tests"):
            return folder
        folder = os.path.dirname(folder)
    return None


def resolve(root, path, name):
    """The included file, relative to root."""
    for base in (os.path.dirname(path), "", "include"):
        candidate = os.path.normpath(os.path.join(base, name))
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def may_include(source, target):
    if source == target:
        return True
    if source in ONLY:
        return target in ONLY[source]
    if target not in RANKS:
        return False
    # include/balefs is below everything, fs/base too.
    if target == "include/balefs":
        return True
    return RANKS[target] < RANKS[source]


def check_file(root, path):
    layer = layer_of(path)
    if layer == "tests":
        return
    if layer is None:
        yield f"{path}: in no layer's folder"
        return
    text = lint_tree.read(root, path) or ""
    if DIRECT_IO.search(text):
        yield f"{path}: calls the I/O layer without BALE_IO()"
    for kind, name in INCLUDE.findall(text):
        for pattern, layers in FOREIGN:
            if pattern.match(name) and layer not in layers:
                yield f"{path}: <{name}> belongs to {', '.join(layers)} alone"
        if name in GENERATED and layer not in ONLY:
            continue
        target = resolve(root, path, name)
        if target is None:
            if kind == '"':
                yield f'{path}: "{name}" is no file of the project'
            continue
        if not may_include(layer, layer_of(target)):
            yield f'{path}: "{name}" is not below {layer}'


def documented_ranks(text):
    return {folder: int(rank) for rank, folder in
            re.findall(r"^\|\s*(\d+)\s*\|\s*`?([\w/]+)`?\s*\|", text, re.M)
            if folder in RANKS or folder.startswith("fs/")}


def check(root):
    problems = []
    page = "docs/architecture.md"
    documented = documented_ranks(lint_tree.read(root, page))
    if documented != RANKS:
        wrong = sorted(set(documented.items()) ^ set(RANKS.items()))
        problems.append(f"{page}: layer table differs: {wrong}")
    for path in lint_tree.files(root):
        if lint_tree.is_c(path):
            problems.extend(check_file(root, path))
    return problems
