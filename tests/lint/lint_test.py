#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each lint check on a small tree that breaks its rule, and on one that does
not: a check that finds nothing anywhere would look clean for ever."""
import os
import sys
import tempfile
import unittest

import lint_build
import lint_help
import lint_layers
import lint_sizes
import lint_text
import lint_tools
import lint_tree

LINE = "/* SPDX-License-Identifier: Apache-2.0 */\n"
TABLE = "".join(f"| {rank} | {folder} | x |\n"
                for folder, rank in lint_layers.RANKS.items())


class Tree(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = self.folder.name
        self.write("docs/architecture.md", TABLE)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
        return full

    def one(self, problems, part):
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(part, problems[0])


class Layers(Tree):
    def setUp(self):
        super().setUp()
        for path in ("fs/base/log.h", "fs/store/store.h", "fs/codec/codec.h",
                     "include/balefs/le.h", "tests/support/fake.h"):
            self.write(path, LINE)

    def check(self, path, include):
        self.write(path, LINE + f"#include {include}\n")
        return lint_layers.check(self.root)

    def test_io_has_its_call_sites(self):
        self.write("fs/store/a.c", LINE + "r = st->io->ops->sync(io, fd);\n")
        self.one(lint_layers.check(self.root), "BALE_IO")
        self.write("fs/store/a.c", LINE + "r = BALE_IO(io)->sync(io, fd);\n")
        self.assertEqual(lint_layers.check(self.root), [])

    def test_downward_is_right(self):
        self.assertEqual(self.check("fs/inode/a.c", '"fs/store/store.h"'), [])
        self.assertEqual(self.check("fs/base/a.c", '"balefs/le.h"'), [])
        self.assertEqual(self.check("tools/a.c", '"config.h"'), [])
        self.assertEqual(self.check("tests/unit/a.c", '<lmdb.h>'), [])

    def test_upward(self):
        self.one(self.check("fs/base/a.c", '"fs/store/store.h"'), "not below")

    def test_sibling(self):
        self.one(self.check("fs/codec/a.c", '"fs/store/store.h"'), "not below")

    def test_from_its_own_folder_by_name(self):
        self.one(self.check("include/balefs/a.h", '"fs/base/log.h"'),
                 "not below")

    def test_kernels_see_balefs_only(self):
        self.one(self.check("kernels/a.cu", '"fs/base/log.h"'), "not below")

    def test_nothing_includes_tests(self):
        self.one(self.check("tools/a.c", '"tests/support/fake.h"'),
                 "not below")

    def test_libraries_stay_in_their_layer(self):
        self.one(self.check("fs/inode/a.c", "<lmdb.h>"), "fs/store alone")
        self.one(self.check("fs/inode/a.c", "<fuse_lowlevel.h>"),
                 "fs/fuse alone")
        self.one(self.check("fs/inode/a.c", "<cuda_runtime.h>"),
                 "kernels alone")

    def test_missing_file(self):
        self.one(self.check("tools/a.c", '"fs/base/gone.h"'), "no file")

    def test_page_differs(self):
        self.write("docs/architecture.md", TABLE.replace("| 4 |", "| 5 |"))
        self.one(lint_layers.check(self.root), "fs/cache")


class Text(Tree):
    def test_spdx(self):
        self.write("fs/a.c", LINE)
        self.write("scripts/x", "#!/bin/sh\n# SPDX-License-Identifier: "
                   "Apache-2.0\n")
        self.assertEqual(lint_text.check_spdx(self.root), [])
        self.write("scripts/y", "#!/bin/sh\necho\n")
        self.one(lint_text.check_spdx(self.root), "scripts/y")

    def test_words(self):
        self.write("README.md", "a lock: exclusive/shared/none\n")
        self.assertEqual(lint_text.check_words(self.root), [])
        for word in ("http://deb." + "debian.org", "/wo" + "rk/x",
                     "see sha" + "red/notes", "TO" + "DO: later",
                     "<" * 7 + " HEAD"):
            self.write("README.md", word + "\n")
            self.one(lint_text.check_words(self.root), "README.md:1")

    def test_white_space(self):
        self.write("a.c", "int a; \n")
        self.one(lint_text.check_white_space(self.root), "line end")
        self.write("a.c", "int a;")
        self.one(lint_text.check_white_space(self.root), "no newline")

    def test_links(self):
        self.write("docs/a.md", "[x](architecture.md#words) [y](b.md)\n")
        self.one(lint_text.check_links(self.root), "b.md")


class Sizes(Tree):
    def body(self, lines, above=""):
        return above + "static int f(int a,\n\t     int b)\n{\n" + \
            "\ta++;\n" * lines + "}\n"

    def test_function(self):
        self.write("fs/a.c", self.body(80))
        self.assertEqual(lint_sizes.check(self.root), [])
        self.write("fs/a.c", self.body(81))
        self.one(lint_sizes.check(self.root), "fs/a.c:1: f() has 81")

    def test_exception_needs_a_reason(self):
        mark = "/* NOLINTNEXTLINE(readability-function-size)"
        self.write("fs/a.c", self.body(81, mark + ": a table in code */\n"))
        self.assertEqual(lint_sizes.check(self.root), [])
        self.write("fs/a.c", self.body(81, mark + " */\n"))
        self.one(lint_sizes.check(self.root), "without a reason")

    def test_file(self):
        self.write("fs/a.c", "\n" * 601)
        self.one(lint_sizes.check(self.root), "601 lines")


class Build(Tree):
    def headers(self, text):
        self.write("build/compile_commands.json", "[]")
        self.write("include/balefs/a.h", text)
        return lint_build.check_headers(
            self.root, os.path.join(self.root, "build"), "cc", "")

    def test_header_alone(self):
        guard = "#ifndef BALE_A_H\n#define BALE_A_H\n{}#endif\n"
        self.assertEqual(self.headers(guard.format(
            "#include <stdint.h>\nuint8_t a(void);\n")), [])
        self.one(self.headers(guard.format("uint8_t a(void);\n")), "not alone")

    def test_header_guard(self):
        self.one(self.headers("extern int a;\n"), "no guard")

    def test_symbols(self):
        for name, count in (("bale_right", 0), ("wrong", 1),
                            ("_Z10bale_righti", 0), ("_Z5wrongi", 1)):
            source = self.write(f"{name}.c", f"int {name};\n")
            library = source[:-1] + "o"
            done = lint_build.subprocess.run(["cc", "-c", source, "-o",
                                              library], check=False)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(len(lint_build.check_symbols([library])), count)


class Hardening(Tree):
    FLAGS = ("-O2", "-fPIE", "-pie", "-fstack-protector-all",
             "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-Wl,-z,now",
             "-Wl,-z,relro", "-Wl,-z,noexecstack")

    def check(self, *more, fortify=True):
        source = self.write("main.c", "#include <stdio.h>\n"
                            "int main(int argc, char **argv)\n{\n"
                            "\tchar b[9];\n"
                            "\tsprintf(b, \"%d\", argc);\n"
                            "\treturn puts(b) + argv[0][0];\n}\n")
        binary = source[:-2]
        done = lint_build.subprocess.run(
            ["cc", *self.FLAGS, *more, source, "-o", binary], check=False,
            stderr=lint_build.subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0)
        return lint_build.check_hardening([binary], fortify)

    def test_each(self):
        if self.check() is None:
            self.skipTest("no readelf")
        self.assertEqual(self.check(), [])
        for flags, what in ((("-no-pie", "-fno-PIE"), "not position"),
                            (("-Wl,-z,lazy",), "BIND_NOW"),
                            (("-Wl,-z,norelro",), "RELRO"),
                            (("-Wl,-z,execstack",), "stack is exec"),
                            (("-fno-stack-protector",), "no stack prot"),
                            (("-Wl,-rpath,/x",), "PATH"),
                            (("-D_FORTIFY_SOURCE=0",), "no fortified")):
            self.one(self.check(*flags), what)
        self.assertEqual(self.check("-D_FORTIFY_SOURCE=0", fortify=False), [])


class Help(Tree):
    GOOD = ('case $*,$1 in *--help*) echo "usage: x --help"; echo "  mkfs  makes";'
            'echo "  dump  shows"; echo "  stats  counts";; '
            '*) echo "x: no option $*" >&2; exit 2;; esac\n')

    page = "\\-\\-help\n"

    def check(self, script):
        path = self.write("program", "#!/bin/sh\n" + script)
        os.chmod(path, 0o755)
        for command in ("mkfs", "dump", "stats"):
            self.write(f"tools/man/balefs-{command}.8", self.page)
        return lint_help.check(self.root, path, ["fsck.balefs"])

    def test_good(self):
        # the link's exit is fsck's: bit 4
        self.one(self.check(self.GOOD), "fsck.balefs --no-such-option: exit 2")

    def test_bad(self):
        long = self.GOOD.replace("usage: x", "usage: " + "x" * 80)
        self.assertIn("80 columns", self.check(long)[0])
        error = self.GOOD.replace('--help";', '--help" >&2;')
        self.assertTrue(any("standard error" in p for p in self.check(error)))
        quiet = self.GOOD.replace("exit 2", "exit 0")
        self.assertTrue(any("exit 0" in p for p in self.check(quiet)))

    def test_manual(self):
        self.page = "\\-\\-help\n\\fB\\-\\-deep\\fR\n"
        self.assertIn("--help: --deep is missing", self.check(self.GOOD)[0])
        self.page = ".TH X 8\n"
        deep = self.GOOD.replace("x --help", "x --help --deep")
        self.assertIn("8: --deep is missing", self.check(deep)[0])


class Tools(Tree):
    def test_python(self):
        self.write("a.py", "def f(:\n")
        self.one(lint_tools.check_python(self.root), "a.py:1")

    def test_others_see_what_is_wrong(self):
        self.write("a.md", "te" + "h store\n")
        self.write("a.sh", "#!/bin/sh\nrm $1/*\n")
        self.write("a.c", "int  a ;\n")
        for check in (lint_tools.check_spelling, lint_tools.check_shell,
                      lint_tools.check_format):
            found = check(self.root)
            self.assertTrue(found is None or found, check.__name__)

    def test_walk_skips_build_folders(self):
        self.write("b/meson-private/x", "")
        self.write("b/a.c", "")
        self.assertEqual(lint_tree.files(self.root), ["docs/architecture.md"])


if __name__ == "__main__":
    sys.exit(unittest.main())
