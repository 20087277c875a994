# SPDX-License-Identifier: Apache-2.0
"""The files that the lint checks look at: what git tracks or would track, or,
in an unpacked release, every file outside of build folders."""
import os
import subprocess

C_SOURCES = (".c", ".cc", ".h", ".cu", ".cuh")


def _git_files(root):
    if not os.path.exists(os.path.join(root, ".git")):
        return None
    try:
        out = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z",
             "--cached", "--others", "--exclude-standard"],
            check=True, stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return out.decode().split("\0")[:-1]


def _walk(root):
    for folder, dirs, names in os.walk(root):
        if "meson-private" in dirs:  # a build folder
            dirs[:] = []
            continue
        dirs[:] = [d for d in dirs if d not in (".git", "__pycache__")]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if not path.startswith("subprojects/") or path.endswith(".wrap"):
                yield path


def is_data(path):
    """Inputs of tests: any bytes, ours only to keep."""
    return "/corpus/" in path or "/vectors/data/" in path


def files(root):
    """Paths relative to root, sorted; regular files only, no test data."""
    found = _git_files(root)
    if found is None:
        found = _walk(root)
    return sorted(p for p in found
                  if not is_data(p) and os.path.isfile(os.path.join(root, p))
                  and not os.path.islink(os.path.join(root, p)))


def is_c(path):
    return path.endswith(C_SOURCES)


def read(root, path):
    """The file's text; None when it is binary."""
    with open(os.path.join(root, path), "rb") as f:
        data = f.read()
    if b"\0" in data:
        return None
    return data.decode("utf-8", "surrogateescape")


def is_script(root, path, kinds=("sh", "bash", "dash", "python")):
    """By name or by #! line."""
    if path.endswith(".sh"):
        return "sh" in kinds
    if path.endswith(".py"):
        return "python" in kinds
    with open(os.path.join(root, path), "rb") as f:
        first = f.readline(80).decode("ascii", "replace")
    if not first.startswith("#!"):
        return False
    program = first[2:].split()[-1].rsplit("/", 1)[-1]
    return any(program == k or (k == "python" and program.startswith(k))
               for k in kinds)
