# SPDX-License-Identifier: Apache-2.0
"""Checkers that may be installed or not: None means it is not."""
import os
import shutil
import subprocess

import lint_tree

# Words that are right here: of our own, of C, of the kernel.
NOT_MISSPELT = "bale,inode,nd,ser,ot,fo,stdio,creat,ro,fle,te,ue,numer,whats,ans"


def run(root, argv):
    done = subprocess.run(argv, cwd=root, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode(errors="replace").strip().split("\n") \
        if done.returncode else []


def check_spelling(root):
    if not shutil.which("codespell"):
        return None
    paths = [p for p in lint_tree.files(root)
             if p != "LICENSE" and lint_tree.read(root, p) is not None]
    return run(root, ["codespell", "-L", NOT_MISSPELT, "--", *paths])


def check_shell(root):
    if not shutil.which("shellcheck"):
        return None
    paths = [p for p in lint_tree.files(root)
             if lint_tree.is_script(root, p, ("sh", "bash", "dash"))]
    return run(root, ["shellcheck", "--severity=style", "--", *paths])


def check_python(root):
    """No checker of style is asked for; it must compile."""
    problems = []
    for path in lint_tree.files(root):
        if lint_tree.is_script(root, path, ("python",)):
            try:
                compile(lint_tree.read(root, path), path, "exec")
            except SyntaxError as e:
                problems.append(f"{path}:{e.lineno}: {e.msg}")
    return problems


def check_format(root):
    if not shutil.which("clang-format"):
        return None
    paths = [p for p in lint_tree.files(root) if lint_tree.is_c(p)]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", "--",
                           *paths], cwd=root, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, check=False)
    wrong = {line.split(":")[0]
             for line in done.stderr.decode(errors="replace").split("\n")
             if ": error: code should be clang-formatted" in line}
    return [f"{os.path.normpath(path)}: not as clang-format has it"
            for path in sorted(wrong)]
