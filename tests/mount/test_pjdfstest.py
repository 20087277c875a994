# SPDX-License-Identifier: Apache-2.0
"""pjdfstest, where PJDFSTEST names its source tree with the program built."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

TOP = os.environ.get("PJDFSTEST", "")


def job(rig, opts):
    bale.need_root()
    bale.need("prove")
    if not os.path.exists(os.path.join(TOP, "pjdfstest")):
        raise bale.Skip("PJDFSTEST is not set")
    rig.start(opts=opts)
    os.mkdir(rig.path("work"), 0o755)
    p = bale.run("prove", "-r", "-j2", os.path.join(TOP, "tests"),
                 cwd=rig.path("work"), timeout=1100, ok=None)
    tail = "\n".join(p.stdout.splitlines()[-40:])
    print("# " + "\n# ".join(p.stdout.splitlines()[-2:]))
    assert p.returncode == 0, tail
    rig.umount()
    rig.fsck()


@bale.limit(1200)
def test_cached(rig):
    job(rig, "allow_other,suid,dev")


@bale.limit(1200)
def test_direct(rig):
    job(rig, "allow_other,suid,dev,io=direct")


bale.main()
