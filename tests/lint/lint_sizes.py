# SPDX-License-Identifier: Apache-2.0
"""Sizes: 600 lines a file (1000 a test, which is mostly tables), 80 a
function. An exception is written where it applies, with its reason:
NOLINT(file-size): ... at the top of the file, and
NOLINTNEXTLINE(readability-function-size): ... above the function."""
import re

import lint_tree

FILE_LINES = 600
TEST_LINES = 1000
FUNCTION_LINES = 80

EXCEPTION = re.compile(r"NOLINT(?:NEXTLINE)?\(([\w, -]+)\)(:?\s*)(.*)")


def functions(text):
    """(name, line of the signature, lines between the braces, excepted).

    The style puts a function's braces, and nothing else but those of types
    and tables, in column 0: no parser is needed."""
    lines = text.split("\n")
    opened = None
    for number, line in enumerate(lines):
        if line == "{":
            opened = number
        elif line.startswith("}") and opened is not None:
            first = opened
            while first > 0 and lines[first - 1].strip() and \
                    not lines[first - 1].startswith(("}", "#")) and \
                    not lines[first - 1].rstrip().endswith((";", "*/")):
                first -= 1
            signature = " ".join(lines[first:opened])
            name = re.search(r"(\w+)\s*\(", signature)
            above = lines[first - 1] if first else ""
            if name and not signature.startswith(("namespace", "struct {")):
                yield (name.group(1), first + 1, number - opened - 1,
                       "NOLINTNEXTLINE(readability-function-size)" in above)
            opened = None


def check(root):
    problems = []
    for path in lint_tree.files(root):
        if not lint_tree.is_c(path):
            continue
        text = lint_tree.read(root, path)
        if text is None:
            continue
        length = text.count("\n")
        limit = TEST_LINES if path.startswith("tests/") else FILE_LINES
        head = "\n".join(text.split("\n", 20)[:20])
        if length > limit and "NOLINT(file-size)" not in head:
            problems.append(f"{path}: {length} lines, limit {limit}")
        for name, line, body, excepted in functions(text):
            if body > FUNCTION_LINES and not excepted:
                problems.append(f"{path}:{line}: {name}() has {body} lines, "
                                f"limit {FUNCTION_LINES}")
        for number, line in enumerate(text.split("\n"), 1):
            hit = EXCEPTION.search(line)
            if hit and (not hit.group(2).startswith(":") or
                        len(hit.group(3).strip(" */")) < 8):
                problems.append(f"{path}:{number}: NOLINT without a reason")
    return problems
