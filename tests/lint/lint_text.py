# SPDX-License-Identifier: Apache-2.0
"""What a text says: licence lines, words that must not be there, white space,
links between pages."""
import os
import re

import lint_tree

SPDX = "SPDX-License-Identifier: Apache-2.0"
SPDX_NAMES = ("meson.build", "meson_options.txt", ".clang-format",
              ".clang-tidy", ".editorconfig")

# Joined at run time, so that this file does not hold what it looks for.
FORBIDDEN = [re.compile(p) for p in (
    # hosts of package registries: the machine's own sources name them
    r"\b(deb|ftp|security|snapshot)\." + r"debian\b",
    r"\b(archive|security|ports)\." + r"ubuntu\b",
    r"\bpypi" + r"\.org\b", r"\bpython" + r"hosted\b",
    r"\bregistry\." + r"npmjs\b", r"\bcrates" + r"\.io\b",
    r"\bproxy\." + r"golang\b", r"\bdeveloper\.download" + r"\.nvidia\b",
    # paths of one machine
    r"(^|[\s\"'(=])/wo" + r"rk/", r"(^|[\s\"'(`]|\.\./)sha" + r"red/",
    r"/tmp/te" + r"am\b",
    # unfinished work, and notes that are nobody else's
    r"(?i)private, do not " + r"commit",
    r"^(<{7}|>{7}) ", r"\bXX" + r"X\b", r"\bFIX" + r"ME\b",
    r"\bTO" + r"DO\b(?!\(#\d+\))",
)]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def needs_spdx(root, path):
    name = os.path.basename(path)
    return (lint_tree.is_c(path) or name in SPDX_NAMES or
            path.endswith(".wrap") or lint_tree.is_script(root, path))


def check_spdx(root):
    problems = []
    for path in lint_tree.files(root):
        if not needs_spdx(root, path):
            continue
        head = (lint_tree.read(root, path) or "").split("\n", 3)[:3]
        if not any(SPDX in line for line in head):
            problems.append(f"{path}: no '{SPDX}' in its first three lines")
    return problems


def check_words(root):
    problems = []
    for path in lint_tree.files(root):
        text = lint_tree.read(root, path)
        if text is None or path == "LICENSE":
            continue
        for number, line in enumerate(text.split("\n"), 1):
            for pattern in FORBIDDEN:
                hit = pattern.search(line)
                if hit:
                    problems.append(
                        f"{path}:{number}: '{hit.group().strip()}'")
    return problems


def check_white_space(root):
    problems = []
    for path in lint_tree.files(root):
        text = lint_tree.read(root, path)
        if not text or path.endswith((".patch", ".diff")):
            continue
        if not text.endswith("\n"):
            problems.append(f"{path}: no newline at its end")
        if text.endswith("\n\n"):
            problems.append(f"{path}: empty lines at its end")
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                problems.append(f"{path}:{number}: white space at line end")
            if path.endswith(".py") and "\t" in line:
                problems.append(f"{path}:{number}: tab in Python")
    return problems


def check_links(root):
    problems = []
    for path in lint_tree.files(root):
        if not path.endswith(".md"):
            continue
        for target, _ in LINK.findall(lint_tree.read(root, path)):
            if "://" in target:
                continue
            where = os.path.join(root, os.path.dirname(path), target)
            if not os.path.exists(where):
                problems.append(f"{path}: link to {target}, which is not there")
    return problems
