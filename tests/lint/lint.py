#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run one lint check: lint.py CHECK ROOT [ARGUMENT...]

exit 0: clean; 1: what is wrong is on standard output; 77: the check's
program is not installed."""
import os
import sys

import lint_build
import lint_help
import lint_layers
import lint_sizes
import lint_text
import lint_tools

CHECKS = {
    "layers": lint_layers.check,
    "spdx": lint_text.check_spdx,
    "words": lint_text.check_words,
    "white-space": lint_text.check_white_space,
    "links": lint_text.check_links,
    "sizes": lint_sizes.check,
    "headers": lambda root, build, cc, cxx="":
        lint_build.check_headers(root, build, cc, cxx),
    "symbols": lambda root, *libraries: lint_build.check_symbols(libraries),
    "hardening": lambda root, fortify, *binaries:
        lint_build.check_hardening(binaries, fortify == "fortify"),
    "help": lambda root, program, *links: lint_help.check(root, program, links),
    "spelling": lint_tools.check_spelling,
    "shell": lint_tools.check_shell,
    "python": lint_tools.check_python,
    "format": lint_tools.check_format,
}


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in CHECKS:
        print(f"usage: lint.py CHECK ROOT [ARGUMENT...]\n"
              f"checks: {' '.join(CHECKS)}", file=sys.stderr)
        return 2
    root = os.path.abspath(sys.argv[2])
    problems = CHECKS[sys.argv[1]](root, *sys.argv[3:])
    if problems is None:
        return 77
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
