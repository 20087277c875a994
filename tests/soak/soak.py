#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two hours of mixed load on one store, each part of it verified.

Rounds of some minutes. In each the store is mounted, many programs and threads
work in it at once, then it is unmounted, or its daemon killed, mounted again,
and everything compared with what it has to be; fsck must find nothing. One
line per round; exit status 1 with the first thing that is wrong, and the store
is left for a look.

    BALEFS=build/tools/balefs FSX=build/tests/mount/fsx tests/soak/soak.py
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(TOP, "..", "support"))
import bale
from durable import Appender, Writer

FSX = os.environ.get("FSX", "fsx")
BOUND_MIB = 256  # of memory, beside the cache


class Load(threading.Thread):
    """Calls one() again and again; what it raises fails the soak, unless the
    daemon was killed."""

    def __init__(self, rig, rng):
        super().__init__(daemon=True)
        self.rig, self.rng = rig, rng
        self.stopping, self.error, self.done = threading.Event(), None, 0

    def run(self):
        try:
            while not self.stopping.is_set():
                self.one()
                self.done += 1
        except Exception as e:
            self.error = e

    def program(self, *argv):
        return bale.run(*argv, timeout=1800)


class Tree(Load):
    """A tree copied in, compared, moved, packed, and removed."""

    def one(self):
        src = self.rng.choice(TREES)
        top = self.rig.path(f"tree{id(self)}")
        self.program("cp", "-a", src, top)
        self.program("diff", "-r", "--no-dereference", src, top)
        os.rename(top, top + ".moved")
        self.program("tar", "-C", top + ".moved", "-cf", top + ".tar", ".")
        self.program("rm", "-r", top + ".moved")
        os.mkdir(top)
        self.program("tar", "-C", top, "-xf", top + ".tar")
        self.program("diff", "-r", "--no-dereference", src, top)
        self.program("rm", "-r", top, top + ".tar")


class Fsx(Load):
    """Random operations on one file, with mmap and truncates, and a model."""

    def one(self):
        path = self.rig.path(f"fsx{id(self)}")
        self.program(FSX, "-s", self.rng.randrange(1 << 30), "-n", 3000, path)
        os.unlink(path)


class Names(Load):
    """Thousands of names in one directory: made, linked, renamed, listed."""

    def one(self):
        top = self.rig.path(f"names{id(self)}")
        os.mkdir(top)
        names = set()
        for _ in range(self.rng.randrange(100, 3000)):
            name = "%x" % self.rng.getrandbits(40)
            with open(os.path.join(top, name), "wb") as f:
                f.write(name.encode() * self.rng.choice([0, 1, 40, 900]))
            names.add(name)
            if self.rng.random() < 0.3:
                old = self.rng.choice(sorted(names)[:50])
                os.rename(os.path.join(top, old), os.path.join(top, old + "r"))
                names.remove(old)
                names.add(old + "r")
        assert set(os.listdir(top)) == names, "names differ"
        for name in names:
            with open(os.path.join(top, name), "rb") as f:
                got = f.read()
            base = name.rstrip("r").encode()
            assert got == base * (len(got) // len(base)), name
            os.unlink(os.path.join(top, name))
        os.rmdir(top)


class Stress(Load):
    """The file stressors of stress-ng that verify what they read."""

    def one(self):
        kind = self.rng.choice(["hdd", "fallocate", "rename", "link", "xattr",
                                "seek", "dentry", "utime", "mmap", "readahead"])
        self.program("stress-ng", "--temp-path", self.rig.mnt, "--verify",
                     f"--{kind}", "2", "-t", "10s", "--oom-avoid")


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return 0


def find_trees():
    trees = [d for d in ("/usr/include/linux", "/usr/share/doc",
                         os.path.join(TOP, "../../fs"), "/usr/share/perl")
             if os.path.isdir(d)]
    return [os.path.realpath(d) for d in trees]


TREES = find_trees()


def one_round(rig, n, args, rng, held):
    """held: the writers of all rounds so far, which verify for ever."""
    kill = args.kill and n % 3 == 2
    cache = rng.choice([32, args.cache])
    opts = f"cache={cache}M" + rng.choice(["", ",io=direct", ",commit=0.3"])
    rig.mount(opts, foreground=True)
    kinds = [Tree, Fsx, Fsx, Names] + ([Stress] if shutil.which("stress-ng")
                                       else [])
    loads = [k(rig, random.Random(rng.random())) for k in kinds]
    mine = [Writer(rig.path(f"w{n}-{t}"), n * 10 + t) for t in range(2)]
    mine.append(Appender(rig.path(f"log{n}")))
    for t in loads + mine:
        t.start()
    time.sleep(args.round)
    peak = memory_mib(rig.daemon.pid)
    if kill:
        rig.kill()
    for t in loads + mine:
        t.stopping.set()
    for t in loads + mine:
        t.join(1800)
        assert not t.is_alive(), f"{type(t).__name__} does not end"
    for t in loads:
        if t.error and not kill:
            raise t.error
    if not kill:
        rig.umount()
    assert peak < cache + BOUND_MIB, f"daemon: {peak} MiB of memory"
    held += mine
    rig.mount()
    for t in held:
        t.verify()
    if kill:  # half of what was going on
        for name in os.listdir(rig.mnt):
            if name.startswith(("tree", "fsx", "names", "tmp-")):
                subprocess.run(["rm", "-rf", rig.path(name)], check=True)
    rig.umount()
    deep = ["--deep"] if n % 4 == 3 else []
    bale.run(bale.BALEFS, "fsck", "-n", "-f", *deep, rig.store, timeout=3600)
    print(f"round {n}: {'killed' if kill else 'unmounted'}, {opts}; "
           + ", ".join(f"{type(t).__name__} {t.done}" for t in loads) +
          f"; {sum(len(t.durable) for t in mine[:2])} files and "
          f"{mine[2].acked // 16} appends held; {peak} MiB", flush=True)


def total_memory_mib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--seconds", type=int, default=7200)
    p.add_argument("--round", type=int, default=240,
                   help="seconds of load in each")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--no-kill", dest="kill", action="store_false",
                   help="never kill the daemon")
    p.add_argument("--cache", type=int, default=total_memory_mib() // 8,
                   help="MiB that the daemon's cache may have")
    args = p.parse_args()
    bale.need_root()
    rig, rng, held = bale.Rig(), random.Random(args.seed), []
    print(f"store {rig.store}, seed {args.seed}", flush=True)
    rig.mkfs("segment=16M,log=4M")
    end, n = time.monotonic() + args.seconds, 0
    try:
        while time.monotonic() < end:
            one_round(rig, n, args, rng, held)
            n += 1
    except BaseException:
        print(rig.log()[-4000:])
        print(f"failed in round {n}; the store is {rig.store}")
        raise
    rig.close()
    print(f"soak: {n} rounds, all as it should be")


if __name__ == "__main__":
    main()
