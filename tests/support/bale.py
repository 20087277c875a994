# SPDX-License-Identifier: Apache-2.0
"""Mount tests: a private store and mount point per test, always unmounted.

A test file defines functions test_*(rig) and ends with bale.main(). Each gets
a fresh Rig and a time limit. Exit status: 0 all passed, 77 nothing could run,
1 otherwise. BALEFS names the program under test.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

BALEFS = os.environ.get("BALEFS", "balefs")
ONLY = sys.argv[1:]


class Skip(Exception):
    """This machine cannot run the test; the reason is the message."""


class Limit(Exception):
    """The test took too long."""


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            raise Skip(f"{p} is not installed")


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def run(*argv, ok=(0,), timeout=120, **kw):
    """Run a program; its output is returned, and shown when it fails."""
    kw.setdefault("stdout", subprocess.PIPE)
    kw.setdefault("stderr", subprocess.STDOUT)
    kw.setdefault("stdin", subprocess.DEVNULL)
    p = subprocess.run([str(a) for a in argv], timeout=timeout, text=True,
                       errors="replace", check=False, **kw)
    if ok is not None and p.returncode not in ok:
        raise AssertionError(f"{' '.join(map(str, argv))}: status "
                             f"{p.returncode}\n{(p.stdout or '')[-4000:]}")
    return p


def wait_until(fn, what, seconds=20):
    end = time.monotonic() + seconds
    while not fn():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def mounted_at(path):
    with open("/proc/self/mountinfo", encoding="utf-8",
              errors="surrogateescape") as f:
        return any(line.split()[4] == path for line in f)


class Rig:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="balefs-test-",
                                    dir=os.environ.get("BALEFS_TEST_DIR"))
        os.chmod(self.dir, 0o755)
        self.store = os.path.join(self.dir, "store")
        self.mnt = os.path.join(self.dir, "mnt")
        self.local = os.path.join(self.dir, "local")
        os.mkdir(self.mnt)
        os.mkdir(self.local)
        self.daemon = None  # of mount(foreground=True)
        self.undo = []

    def mkfs(self, opts=""):
        argv = [BALEFS, "mkfs", "-q"] + (["-o", opts] if opts else [])
        run(*argv, self.store)

    def mount(self, opts="", foreground=False, env=None, close_fds=True):
        extra = os.environ.get("BALEFS_TEST_OPTIONS", "")
        opts = ",".join(o for o in (opts, extra) if o)
        argv = [BALEFS, "mount"] + (["-f"] if foreground else [])
        argv += [self.store, self.mnt] + (["-o", opts] if opts else [])
        if not foreground:
            # Not a pipe: the daemon must not keep the test waiting for it.
            with open(os.path.join(self.dir, "mount.log"), "w+",
                      encoding="utf-8") as log:
                p = subprocess.run(argv, stdout=log, stderr=log, timeout=60,
                                   stdin=subprocess.DEVNULL, check=False,
                                   env=env)
                log.seek(0)
                assert p.returncode == 0, log.read()
            return
        log = open(os.path.join(self.dir, "daemon.log"), "a", encoding="utf-8")
        self.daemon = subprocess.Popen(argv, stdout=log, stderr=log, env=env,
                                       stdin=subprocess.DEVNULL,
                                       close_fds=close_fds)
        log.close()
        wait_until(lambda: mounted_at(self.mnt) or
                   self.daemon.poll() is not None, "mounted")
        assert self.daemon.poll() is None, self.log()
        os.stat(self.mnt)

    def log(self):
        path = os.path.join(self.dir, "daemon.log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def start(self, mkfs="", opts="", foreground=False):
        self.mkfs(mkfs)
        self.mount(opts, foreground)

    def umount(self):
        run(BALEFS, "umount", self.mnt)
        if self.daemon:
            status = self.daemon.wait(timeout=60)
            self.daemon = None
            assert status == 0, f"daemon: status {status}\n{self.log()}"

    def remount(self, opts=""):
        self.umount()
        self.mount(opts)

    def kill(self):
        """SIGKILL to a foreground daemon: all that it held is gone."""
        self.daemon.kill()
        self.daemon.wait(timeout=20)
        self.daemon = None
        run("umount", "-l", self.mnt)

    def fsck(self):
        return run(BALEFS, "fsck", "-n", "-f", self.store, timeout=300)

    def path(self, *names):
        return os.path.join(self.mnt, *names)

    def close(self):
        for fn in reversed(self.undo):
            try:
                fn()
            except Exception as e:  # the rest must be undone too
                print(f"# cleanup: {e}")
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
        if mounted_at(self.mnt):
            try:
                run(BALEFS, "umount", self.mnt, ok=None, timeout=30)
            except subprocess.TimeoutExpired:
                pass
        if mounted_at(self.mnt):
            run("umount", "-l", self.mnt, ok=None)
        shutil.rmtree(self.dir, ignore_errors=True)


def on_alarm(_sig, _frame):
    raise Limit("time limit")


def on_term(_sig, _frame):
    raise SystemExit("terminated")


def run_test(name, fn):
    """'ok', 'skip' or 'failed'."""
    rig = Rig()
    start = time.monotonic()
    result, why = "ok", ""
    signal.alarm(getattr(fn, "limit", 120))
    try:
        fn(rig)
    except Skip as e:
        result, why = "skip", f" # {e}"
    except Exception:
        result = "failed"
        traceback.print_exc(file=sys.stdout)
        print(rig.log()[-4000:])
    finally:
        signal.alarm(0)
        rig.close()
    print(f"{result} {name} ({time.monotonic() - start:.1f} s){why}",
          flush=True)
    return result


def limit(seconds):
    """Decorator: the test's time limit, instead of 120 s."""
    def set_limit(fn):
        fn.limit = seconds
        return fn
    return set_limit


def main():
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_term)
    if not os.path.exists("/dev/fuse"):
        print("skip: no /dev/fuse")
        sys.exit(77)
    tests = {n: f for n, f in vars(sys.modules["__main__"]).items()
             if n.startswith("test_") and callable(f)}
    results = [run_test(n, f) for n, f in tests.items()
               if not ONLY or n in ONLY]
    if "failed" in results:
        sys.exit(1)
    sys.exit(0 if "ok" in results else 77)
