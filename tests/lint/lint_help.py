# SPDX-License-Identifier: Apache-2.0
"""Every command's --help: on standard output, at most 80 columns, exit 0;
a wrong option: one line on standard error, exit 2 or what the command's
callers expect. And its manual page has the same long options."""
import os
import re
import subprocess
import tempfile

# fsck(8) has bits: 16 is a usage error. mount(8) and umount(8): 1.
USAGE_EXITS = {"fsck": 16, "fsck.balefs": 16, "mount": 1, "mount.balefs": 1,
               "umount": 1, "umount.balefs": 1}


def run(argv):
    return subprocess.run(argv, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=20, check=False)


def commands_of(help_text):
    """Rows of the list of commands: two blanks, a word, two blanks, a text."""
    return re.findall(r"^  ([a-z][\w-]*) {2,}\S", help_text, re.M)


def check_help(argv, label):
    done = run([*argv, "--help"])
    out = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        yield f"{label} --help: exit {done.returncode}"
    if done.stderr:
        yield f"{label} --help: writes to standard error"
    if not re.search(r"^usage:", out, re.M | re.I):
        yield f"{label} --help: no 'usage:'"
    for line in out.split("\n"):
        if len(line.expandtabs()) > 80:
            yield f"{label} --help: more than 80 columns: {line}"


def check_manual(root, argv, label):
    """The page has every long option that --help has, and no other; --help
    itself is told once, in balefs(8)."""
    command = label.split()[-1]
    pages = [f"tools/man/{name}.8"
             for name in (f"balefs-{command}", f"{command}.balefs", command)]
    pages = [p for p in pages if os.path.exists(os.path.join(root, p))]
    if not pages:
        yield f"{label}: no manual page in tools/man"
        return
    with open(os.path.join(root, pages[0]), encoding="utf-8") as f:
        page = f.read().replace("\\-", "-")
    page = re.sub(r"\\f.|\\&", "", page)
    text = run([*argv, "--help"]).stdout.decode(errors="replace")
    option = re.compile(r"(?<![\w-])--[a-z][\w-]*")
    helped, written = set(option.findall(text)), set(option.findall(page))
    for name in sorted(helped - written - {"--help"}):
        yield f"{pages[0]}: {name} is missing"
    for name in sorted(written - helped):
        yield f"{label} --help: {name} is missing, {pages[0]} has it"


def check_wrong_option(argv, label):
    done = run([*argv, "--no-such-option"])
    wanted = USAGE_EXITS.get(label.split()[-1], 2)
    if done.returncode != wanted:
        yield f"{label} --no-such-option: exit {done.returncode}"
    if done.stdout:
        yield f"{label} --no-such-option: writes to standard output"
    if b"no-such-option" not in done.stderr:
        yield f"{label} --no-such-option: standard error does not name it"


def check(root, program, links):
    problems = list(check_help([program], "balefs"))
    out = run([program, "--help"]).stdout.decode(errors="replace")
    commands = commands_of(out)
    if len(commands) < 3:
        problems.append(f"balefs --help lists {commands}")
    for command in commands:
        argv, label = [program, command], f"balefs {command}"
        for part in (check_help, check_wrong_option):
            problems.extend(part(argv, label))
        problems.extend(check_manual(root, argv, label))
    with tempfile.TemporaryDirectory() as folder:
        for link in links:
            path = os.path.join(folder, link)
            os.symlink(os.path.abspath(program), path)
            for part in (check_help, check_wrong_option):
                problems.extend(part([path], link))
    return problems
