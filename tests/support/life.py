# SPDX-License-Identifier: Apache-2.0
"""One life of a daemon after another, on one store, under the workloads of
oracle.py: mounted, loaded, killed or unmounted, mounted again and compared."""
import os
import signal
import subprocess
import time

import bale
import oracle


class Life:
    def __init__(self, rig, options, seed):
        self.rig, self.options = rig, options
        self.oracles = oracle.all_of(seed)
        self.daemon = None

    def dead(self):
        return self.daemon.poll() is not None

    def mount(self, env=(), before=None):
        """True: mounted; False: it ended on the way. before runs in the
        daemon's process."""
        rig = self.rig
        with open(os.path.join(rig.dir, "daemon.log"), "a",
                  encoding="utf-8") as log:
            rig.daemon = self.daemon = subprocess.Popen(
                [bale.BALEFS, "mount", "-f", rig.store, rig.mnt, "-o",
                 self.options], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, env={**os.environ, **dict(env)},
                preexec_fn=before)
        bale.wait_until(lambda: bale.mounted_at(rig.mnt) or self.dead(),
                        "mounted", 60)
        return not self.dead()

    def bury(self, want=-signal.SIGKILL):
        """Behind a death: it was the kill, and the mount goes."""
        status = self.daemon.wait(timeout=30)
        assert status == want, \
            f"daemon: status {status}\n{self.rig.log()[-3000:]}"
        self.rig.daemon = None
        for o in self.oracles:
            o.join()
            o.close()
        while bale.mounted_at(self.rig.mnt):
            bale.run("umount", "-l", self.rig.mnt, ok=None)

    def kill(self):
        self.daemon.kill()
        self.bury()

    def verify(self):
        """Compare; a death meanwhile is none of the oracle's business."""
        for o in self.oracles:
            o.top = os.path.join(self.rig.mnt, o.name)
            o.error = None
            try:
                o.verify()
            except Exception:
                if self.dies():
                    return
                raise

    def dies(self):
        """An error was seen: is it because the daemon is gone?"""
        for _ in range(50):
            if self.dead():
                return True
            time.sleep(0.01)
        return False

    def start(self):
        for o in self.oracles:
            o.start(self.rig.mnt)

    def stop(self):
        for o in self.oracles:
            o.stop()

    def errors(self, *allowed):
        """Join the workloads; {name: errno} of those that ended early. Other
        errors than those allowed fail, unless the daemon is dead."""
        found = {}
        for o in self.oracles:
            o.join()
            if not o.error or (not self.dead() and self.dies()):
                continue
            number = getattr(o.error, "errno", None)
            assert self.dead() or number in allowed, f"{o.name}: {o.error!r}"
            found[o.name] = number
        return found

    def errors_now(self):
        return [f"{o.name}: {o.error!r}" for o in self.oracles if o.error]

    def close(self):
        for o in self.oracles:
            o.close()

    def unmount(self):
        """The daemon's status, -SIGKILL when it died of a kill."""
        p = bale.run(bale.BALEFS, "umount", self.rig.mnt, ok=None, timeout=60)
        assert self.dead() or not p.returncode, p.stdout
        try:
            status = self.daemon.wait(timeout=60)
        except subprocess.TimeoutExpired:
            stacks = bale.run("sh", "-c", "cat /proc/$0/task/*/comm; "
                              "cat /proc/$0/task/*/stack", self.daemon.pid,
                              ok=None).stdout
            raise AssertionError(f"the unmount hangs: {stacks}") from None
        if status == 0:
            self.rig.daemon = None
        return status

    def clean_unmount(self):
        """Nothing went wrong: all is there afterwards."""
        self.stop()
        self.errors()
        self.close()
        status = self.unmount()
        assert status == 0, f"status {status}\n{self.rig.log()[-3000:]}"
        for o in self.oracles:
            o.unmounted()

    def check(self):
        """fsck, mount, compare, unmount, fsck."""
        self.rig.fsck()
        assert self.mount(), self.rig.log()[-3000:]
        self.verify()
        self.clean_unmount()
        self.rig.fsck()

    def acks(self):
        return sum(o.acks for o in self.oracles)
