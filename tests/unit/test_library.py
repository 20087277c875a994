#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `meson install` gives other programs: headers, library and pkg-config
file into an empty folder, and a program made with nothing else.

usage: test_library.py BUILD OUTSIDER.C CC.."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile


def run(argv, **more):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE,
                          **more).stdout.decode()


def exported(library):
    out = run(["nm", "-D", "--defined-only", library])
    return {line.split()[-1].split("@")[0] for line in out.split("\n")
            if re.match(r"^[0-9a-f]+ [TDBRV] ", line)}


def promised(headers):
    names = set()
    for path in headers:
        with open(path, encoding="utf-8") as f:
            names |= set(re.findall(r"BALE_PUBLIC\s+\w+\s+(bale_\w+)\(",
                                    f.read()))
    return names


def check(build, source, cc, root):
    run(["meson", "install", "-C", build, "--no-rebuild", "--quiet",
         "--tags", "devel,runtime"], env=dict(os.environ, DESTDIR=root))
    pc = glob.glob(root + "/**/pkgconfig/balefs.pc", recursive=True)
    library = glob.glob(root + "/**/libbalefs.so", recursive=True)
    headers = glob.glob(root + "/**/include/balefs/*.h", recursive=True)
    if not pc or not library or len(headers) < 5:
        return f"not installed: {pc} {library} {headers}"
    shown, wanted = exported(library[0]), promised(headers)
    if not wanted or shown != wanted:
        return f"exported {sorted(shown)}, the headers have {sorted(wanted)}"
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc[0]),
               PKG_CONFIG_SYSROOT_DIR=root,
               LD_LIBRARY_PATH=os.path.dirname(library[0]))
    flags = run(["pkg-config", "--cflags", "--libs", "balefs"],
                env=env).split()
    program = os.path.join(root, "outsider")
    run([*cc, "-std=c17", "-Wall", "-Wextra", "-Werror", source, *flags,
         "-o", program])
    run([program], env=env)
    return None


def main():
    build, source, *cc = sys.argv[1:]
    with open(os.path.join(build, "meson-info/intro-buildoptions.json"),
              encoding="utf-8") as f:
        # A sanitizer's runtime must come first, which an outsider has not.
        values = {o["name"]: o["value"] for o in json.load(f)}
        if values.get("b_sanitize", "none") != "none":
            print("built with sanitizers: skipped")
            return 77
    with tempfile.TemporaryDirectory() as root:
        problem = check(build, source, cc, root)
    if problem:
        print(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
