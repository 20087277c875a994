# SPDX-License-Identifier: Apache-2.0
"""What the build shows: each header compiles alone, the libraries' global
names carry our prefix, and what is installed is hardened."""
import json
import os
import re
import shlex
import shutil
import subprocess

import lint_tree

# Of the compiler, of C++ namespaces that nvcc makes global, of the program.
FOREIGN_NAMES = re.compile(
    r"^(__|_ZN\d+_GLOBAL__N_|_Z\d+__device_stub__|DW\.ref\.|main$)")
# As C, or as a C++ function of one launcher or another within kernels/.
OUR_NAMES = re.compile(r"^(_Z\d+)?bale_")


def compile_flags(root, build):
    """folder -> the include, define and std flags of a file in it."""
    with open(os.path.join(build, "compile_commands.json"),
              encoding="utf-8") as f:
        entries = json.load(f)
    flags = {}
    for entry in entries:
        source = os.path.relpath(
            os.path.join(entry["directory"], entry["file"]), root)
        if not source.endswith(".c") or source.startswith(".."):
            continue
        kept = []
        for arg in shlex.split(entry["command"]):
            if arg.startswith("-I"):
                path = os.path.join(entry["directory"], arg[2:])
                # Not the source's own folder, which Meson adds: a header
                # must say where its own are.
                kept.append("-I" + os.path.normpath(path))
            elif arg.startswith("-D"):
                kept.append(arg)
        flags[os.path.dirname(source)] = kept
    return flags


def compiles(command, source):
    return subprocess.run(command, input=source.encode(),
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          check=False)


def check_headers(root, build, cc, cxx):
    problems = []
    flags = compile_flags(root, build)
    plain = ["-I" + root, "-I" + os.path.join(root, "include"), "-I" + build]
    for path in lint_tree.files(root):
        if not path.endswith(".h") or path.startswith("tests/"):
            continue
        folder = os.path.dirname(path)
        text = lint_tree.read(root, path)
        guard = re.search(r"^#ifndef (BALE_\w+_H)\n#define \1$", text, re.M)
        if not guard:
            problems.append(f"{path}: no guard BALE_..._H")
        # Twice, to see that the guard guards.
        source = f'#include "{os.path.join(root, path)}"\n' * 2 + \
            "extern int bale_not_empty;\n"
        tries = [(cc, ["-x", "c", "-std=gnu17", "-D_GNU_SOURCE",
                       *flags.get(folder, plain)])]
        if path.startswith("include/"):
            tries = [(cc, ["-x", "c", "-std=c17", "-Wpedantic", *plain]),
                     (cxx, ["-x", "c++", "-std=c++17", *plain])]
        elif path.startswith("kernels/"):
            # CUDA's language; the emulated device has its headers.
            emu = "-I" + os.path.join(root, "kernels/emu")
            tries = [(cxx, ["-x", "c++", "-std=c++17", emu, *plain])]
        for compiler, args in tries:
            if not compiler:
                continue
            done = compiles([*shlex.split(compiler), "-fsyntax-only", "-Wall",
                             "-Wextra", "-Werror", "-Wno-unused-function",
                             *args, "-"], source)
            if done.returncode:
                first = done.stderr.decode(errors="replace").strip()
                problems.append(f"{path}: not alone with {compiler} "
                                f"{args[2]}:\n{first}")
    return problems


def check_symbols(libraries):
    problems = []
    for library in libraries:
        out = subprocess.run(["nm", "-g", "--defined-only", library],
                             check=True, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL).stdout.decode()
        names = [line.split()[-1] for line in out.split("\n")
                 if re.match(r"^[0-9a-f]+ [A-Z] ", line)]
        if not names:
            problems.append(f"{library}: no names at all")
        for name in names:
            if not OUR_NAMES.match(name) and not FOREIGN_NAMES.match(name):
                problems.append(f"{os.path.basename(library)}: {name} "
                                "lacks the prefix bale_")
    return problems


def readelf(binary):
    out = subprocess.run(["readelf", "-W", "-h", "-l", "-d", "--dyn-syms",
                          binary], check=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL)
    return out.stdout.decode()


def hardening_problems(text, fortify):
    """What the output of readelf lacks."""
    segments = dict(re.findall(r"^ +(GNU_\w+|LOAD) .* ([RWE ]{3}) +0x",
                               text, re.M))
    loads = re.findall(r"^ +LOAD .* ([RWE ]{3}) +0x", text, re.M)
    dynamic = re.findall(r"^ +0x[0-9a-f]+ \((\w+)\) +(.*)$", text, re.M)
    flags = " ".join(value for name, value in dynamic
                     if name in ("FLAGS", "FLAGS_1", "BIND_NOW"))
    if not re.search(r"^ +Type: +DYN", text, re.M):
        yield "not position-independent"
    if "GNU_RELRO" not in segments or "NOW" not in flags:
        yield "tables of addresses stay writable (RELRO, BIND_NOW)"
    if "E" in segments.get("GNU_STACK", "E"):
        yield "the stack is executable"
    if not loads or any("W" in f and "E" in f for f in loads):
        yield "memory that is written to is executable"
    for name in ("TEXTREL", "RPATH", "RUNPATH"):
        if name in dict(dynamic) or name in flags:
            yield name
    if "__stack_chk_fail" not in text:
        yield "no stack protector"
    if fortify and not re.search(r" __\w+_chk(@|$)",
                                 text.replace("__stack_chk", ""), re.M):
        yield "no fortified calls"


def check_hardening(binaries, fortify):
    if not shutil.which("readelf"):
        return None
    return [f"{os.path.basename(binary)}: {problem}" for binary in binaries
            for problem in hardening_problems(readelf(binary), fortify)]
