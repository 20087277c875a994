#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed at each of its fault points: every call that it makes
of the store, and the steps between them; and at random moments. Then the
store is checked, mounted again, and compared with what must be there.

    test_kill.py [--rounds N] [--seed N] [--points PATTERN] [--keep DIR]

N rounds of one kill each (default: what a suite has time for). Points are
taken in turn, those never killed at first; without mercy for what goes on: at
mount, under load, while recompressing, scrubbing, unmounting."""
import argparse
import collections
import os
import random
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
ARGS = argparse.ArgumentParser()
ARGS.add_argument("--rounds", type=int, default=14)
ARGS.add_argument("--seed", type=int, default=1)
ARGS.add_argument("--points", default="")
ARGS.add_argument("--keep", help="copy the store there when it fails")
ARGS = ARGS.parse_args()
sys.argv[1:] = []
import bale  # noqa: E402, takes what is left of the arguments
import life  # noqa: E402
import oracle  # noqa: E402

MKFS = "segment=1M,log=1M,extent=64K"
OPTIONS = "cache=4M,commit=0.05,bale=64K"
# Of some rounds: bales of more than 1 MiB, longer logs, no pages kept.
OTHER_MKFS = "segment=8M,log=8M,extent=128K"
OTHER_OPTIONS = ("cache=32M,commit=0.3,bale=4M", "cache=4M,io=direct,bale=1M")
EAGER = "cleaner.eager:1+:EAGAIN"
# A kill wants no power loss: memory is as good as a disk, and faster.
os.environ.setdefault("BALEFS_TEST_DIR", "/dev/shm")
LOAD = 2.0  # seconds for a point to be reached


class Point:
    """One fault point: how often each way of mounting passes it."""

    def __init__(self, place, func, name):
        self.place, self.func, self.name = place, func, name
        self.passed = {}  # way -> times
        self.kills = 0
        self.tries = 0

    def __str__(self):
        return f"{self.name if self.name != '-' else self.place} ({self.func})"


def read_counts(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            passed, place, func, name, path = line.split()
            if "tools/" not in path:
                yield int(passed), place, func, name


class Kills(life.Life):
    def __init__(self, rig):
        super().__init__(rig, OPTIONS, ARGS.seed)
        self.rng = random.Random(ARGS.seed)
        self.points = {}
        self.at_random = 0
        self.phases = collections.Counter()
        self.fault = ""

    # ---- what it does ----

    def tool(self, *argv):
        p = bale.run(bale.BALEFS, *argv, ok=None, timeout=60)
        if p.returncode:
            assert self.dies(), (argv, p.returncode, p.stdout)

    def big(self):
        """More extents than one transaction lets go of."""
        path = self.rig.path("big")
        try:
            with open(path, "w+b", buffering=0) as f:
                self.many_extents(f.fileno())
                os.ftruncate(f.fileno(), 100)
                self.many_extents(f.fileno())
            os.unlink(path)
        except OSError:
            if not self.dies():
                raise

    def much_log(self):
        """Several log files are filled, so that checkpoints are written and
        files of the log used again."""
        try:
            with open(self.rig.path("attributes"), "w", encoding="utf-8") as f:
                for n in range(60):
                    os.setxattr(f.fileno(), "user.big",
                                self.rng.randbytes(60000))
                    if n % 10 == 9:
                        os.fsync(f.fileno())
        except OSError:
            if not self.dies():
                raise

    @staticmethod
    def many_extents(fd):
        size = 4 << 20
        os.pwrite(fd, b"extents" * (size // 7 + 1), 0)
        while size < 1 << 30:
            size += os.copy_file_range(fd, fd, size, 0, size)

    def load(self, seconds, what):
        self.start()
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end and not self.dead():
            turn += 1
            if what == "big" and turn == 1:
                self.big()
            if what == "log" and turn % 4 == 1:
                self.much_log()
            if what == "tools" or (turn == 5 and what != "quiet"):
                self.tool("recompress", "--codec",
                          ("zstd", "lz4", "raw")[turn % 3],
                          self.rig.path("blocks"), self.rig.path("more"))
                self.tool("scrub", "--rate", "1G", self.rig.mnt)
            time.sleep(0.02)
        self.stop()

    # ---- which points there are ----

    def count(self, way, what, kill=False):
        """One round without a kill, in which the daemon counts."""
        path = os.path.join(self.rig.dir, "counts")
        assert self.mount({"BALEFS_FAULT": EAGER,
                           "BALEFS_FAULT_COUNTS": path}), self.rig.log()
        self.verify()
        self.load(0.7, what)
        self.clean_unmount()
        for passed, place, func, name in read_counts(path):
            p = self.points.setdefault(place, Point(place, func, name))
            if passed:
                p.passed[way, what] = passed

    def crash(self, what="quiet"):
        """Leave the store as a kill under load does."""
        assert self.mount({"BALEFS_FAULT": EAGER}), self.rig.log()
        self.load(0.4, what)
        self.kill()

    def survey(self):
        self.count("crashed", "all")
        self.count("crashed", "log")
        self.count("crashed", "big")
        self.crash()
        self.count("crashed", "tools")
        self.crash()
        self.lose_index()
        self.count("rebuilt", "all")

    def lose_index(self):
        path = os.path.join(self.rig.store, "index", "data.mdb")
        if os.path.exists(path):  # it may have been killed making one
            os.unlink(path)

    # ---- rounds ----

    def choose(self):
        """The point that had the fewest tries; None: any moment."""
        if self.rng.random() < 0.15:
            return None
        able = [p for p in self.points.values()
                if re.search(ARGS.points, str(p)) and "mkfs" not in p.place]
        # Now and then one that the survey did not see.
        blind = [p for p in able if not p.passed]
        if blind and self.rng.random() < 0.07:
            return self.rng.choice(blind)
        able = [p for p in able if p.passed]
        least = min(p.tries for p in able)
        return self.rng.choice([p for p in able if p.tries == least])

    def spec(self, p, way):
        most = p.passed.get(way, 1)
        nth = 1
        if p.tries and most > 1:
            nth = int(most ** self.rng.random())
        action = self.rng.choice(("kill", "kill", "latekill", "tornkill"))
        return f"{p.place}:{nth}:{action}"

    def round(self):
        p = self.choose()
        way, what = "crashed", self.rng.choice(("all", "tools", "quiet"))
        env = {"BALEFS_FAULT": EAGER}
        seconds = LOAD
        if p:
            way, what = self.rng.choice(sorted(p.passed) or [
                ("crashed", "log"), ("crashed", "tools"), ("rebuilt", "all")])
            self.fault = self.spec(p, (way, what))
            env["BALEFS_FAULT"] += "," + self.fault
            p.tries += 1
        else:
            seconds = self.rng.uniform(0, LOAD)
        if way == "rebuilt":
            self.lose_index()
        self.options = OPTIONS
        if self.rng.random() < 0.15:
            self.options = self.rng.choice(OTHER_OPTIONS)
        phase = self.run(env, seconds, what, p is None)
        if phase:
            self.phases[phase] += 1
            if p:
                p.kills += 1
            else:
                self.at_random += 1
        self.rig.fsck()
        if self.rng.random() < 0.03:
            self.anew()

    def run(self, env, seconds, what, at_random):
        """One life of the daemon: where it was killed, or None."""
        if not self.mount(env):
            self.bury()
            return "mount"
        self.verify()
        phase = "check"
        if not self.dead():
            phase = "load"
            self.load(seconds, what)
        if not self.dead() and (not at_random or self.rng.random() < 0.4):
            phase = "unmount"
            self.errors()
            self.close()
            if self.end(at_random) == 0:
                self.rig.daemon = None
                for o in self.oracles:
                    o.unmounted()
                return None
        elif not self.dead():
            self.daemon.kill()
        self.bury()
        return phase

    def end(self, at_random):
        """Unmount: with a kill on the way, or until it ends; the status."""
        if not at_random:
            return self.unmount()
        bale.run("umount", "-l", self.rig.mnt, ok=None)
        time.sleep(self.rng.uniform(0, 0.06))
        self.daemon.kill()
        return self.daemon.wait(timeout=60)

    def anew(self):
        """A fresh store: what its first life does is done again."""
        self.check()
        bale.run(bale.BALEFS, "mkfs", "-q", "-f", "-o",
                 self.rng.choice((MKFS, OTHER_MKFS)), self.rig.store)
        self.oracles = oracle.all_of(self.rng.randrange(1 << 30))

    def report(self):
        never = [p for p in self.points.values()
                 if not p.passed and not p.kills]
        able = [p for p in self.points.values() if p.passed or p.kills]
        print(f"# {ARGS.rounds} rounds, seed {ARGS.seed}: "
              f"{sum(p.kills for p in able)} kills at "
              f"{sum(p.kills > 0 for p in able)} of {len(able)} points that "
              f"the work passes, {self.at_random} at any moment; "
              + ", ".join(f"{n} in {k}" for k, n in
                          sorted(self.phases.items())))
        for p in sorted(able, key=lambda p: -p.kills):
            print(f"#   {p.kills:4} of {p.tries:4} {p}")
        print(f"# not passed: {', '.join(map(str, never))}")


@bale.limit(120 + 15 * ARGS.rounds)
def test_kill(rig):
    rig.mkfs(MKFS)
    k = Kills(rig)
    rig.undo.append(k.report)
    k.survey()
    for n in range(ARGS.rounds):
        try:
            k.round()
        except Exception:
            print(f"# in round {n}, BALEFS_FAULT of it: {k.fault}")
            if ARGS.keep:
                shutil.copytree(rig.store, ARGS.keep)
            raise
    k.check()


def mkfs(rig, *options, fault="", counts=""):
    return bale.run(bale.BALEFS, "mkfs", "-q", "-o", MKFS, *options, rig.store,
                    ok=None, env={**os.environ, "BALEFS_FAULT": fault,
                                  "BALEFS_FAULT_COUNTS": counts}).returncode


@bale.limit(300)
def test_kill_mkfs(rig):
    """It can be made again, and where it mounts it is whole."""
    kills = opened = 0
    for force in ([], ["-f"]):
        counts = os.path.join(rig.dir, "counts")
        assert mkfs(rig, *force, fault="none:1", counts=counts) == 0
        points = [place for passed, place, _, _ in read_counts(counts)
                  if passed]
        assert len(points) > 15, points
        for place in points:
            if not force:
                shutil.rmtree(rig.store)
            status = mkfs(rig, *force, fault=f"{place}:1:kill")
            assert status == -9, (place, status)
            kills += 1
            p = bale.run(bale.BALEFS, "fsck", "-n", rig.store, ok=None)
            if p.returncode == 0:
                rig.mount()
                assert os.listdir(rig.mnt) == [], place
                rig.umount()
                opened += 1
            assert mkfs(rig, "-f") == 0, place
            rig.fsck()
    print(f"# {kills} kills of mkfs, {opened} stores were made")


bale.main()
