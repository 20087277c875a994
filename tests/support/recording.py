# SPDX-License-Identifier: Apache-2.0
"""A mount that records what its daemon asks of the store's directory, and the
stores that a power cut could have left: RECORDED names the program, whose
source (tests/fault/recorded.c) says what the states are.

    rec = Recording(rig)
    with rec.mounted():         # rig.mnt; the store must be there, closed
        ...; acked = rec.now()  # after something was acknowledged
    for events, label in rec.states(nr, seed, first_event):
        ...                     # mounted at rig.mnt; acked <= events: there
"""
import contextlib
import mmap
import os
import random
import shutil
import struct
import subprocess

import bale

PROGRAM = os.environ.get("RECORDED", "recorded")


class Recording:
    def __init__(self, rig, opts=""):
        if not shutil.which(PROGRAM):
            raise bale.Skip("no recording daemon: RECORDED")
        self.rig, self.opts = rig, opts
        self.file = os.path.join(rig.dir, "recording")
        self.counter = os.path.join(rig.dir, "counter")
        self.events = 0
        self.words = None

    def now(self):
        """Events so far. What returned before this call is in all states of
        at least so many."""
        return struct.unpack_from("=Q", self.words)[0]

    @contextlib.contextmanager
    def mounted(self, opts=""):
        rig = self.rig
        opts = ",".join(o for o in (self.opts, opts) if o)
        argv = [PROGRAM, "mount", rig.store, rig.mnt, self.file, self.counter]
        with open(os.path.join(rig.dir, "daemon.log"), "a",
                  encoding="utf-8") as log:
            rig.daemon = subprocess.Popen(argv + ([opts] if opts else []),
                                          stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log)
        bale.wait_until(lambda: bale.mounted_at(rig.mnt) or
                        rig.daemon.poll() is not None, "mounted")
        assert rig.daemon.poll() is None, rig.log()
        os.stat(rig.mnt)
        with open(self.counter, "rb") as f:
            self.words = mmap.mmap(f.fileno(), 8, prot=mmap.PROT_READ)
        yield
        rig.umount()
        self.events = int(bale.run(PROGRAM, "count", self.file).stdout)

    def build(self, where, events, mode, seed):
        bale.run(PROGRAM, "build", self.file, where, events, mode, seed)

    def states(self, nr, seed, first, opts=""):
        """Build, mount, hand out, unmount and fsck nr states."""
        rig, rng = self.rig, random.Random(seed)
        own = rig.store
        rig.store = os.path.join(rig.dir, "state")
        try:
            for n in range(nr):
                events = rng.randint(first, self.events)
                mode = rng.choice(("all", "none", "random", "random"))
                shutil.rmtree(rig.store, ignore_errors=True)
                self.build(rig.store, events, mode, seed * 1000 + n + 1)
                rig.mount(",".join(o for o in (self.opts, opts) if o))
                label = f"seed {seed} state {n}: {events} events, {mode}"
                try:
                    yield events, label
                except Exception:
                    keep = os.environ.get("BALEFS_TEST_KEEP")
                    if keep:
                        shutil.copytree(rig.store, keep, dirs_exist_ok=True)
                    raise
                rig.umount()
                rig.fsck()
        finally:
            rig.store = own
