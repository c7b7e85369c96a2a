"""A machine of its own for the test: namespaces in which a real systemd is the first process, entered with nsenter.

Nothing of the machine around is changed (boot.sh says how), and all of it is gone when the first process is.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEMD = "/lib/systemd/systemd"
NAMESPACES = ["-m", "-p", "-C", "-u", "-i", "-n"]
BOOT_SECONDS = 60


class Impossible(Exception):
    """Why there can be no such machine here."""


@contextlib.contextmanager
def machine():
    """Starts the machine; yields the words that a command inside it begins with."""
    require()
    cgroup = own_cgroup()
    private = tempfile.mkdtemp(prefix="trollbridge-systemd-")
    log = tempfile.TemporaryFile()
    # The first process is born in the cgroup that its namespace shall begin with.
    script = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
    words = ["unshare", *NAMESPACES, "-f", "--kill-child", "--mount-proc", "sh", str(HERE / "boot.sh"), private]
    outer = subprocess.Popen(["sh", "-c", script, "sh", str(cgroup), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield booted(outer, log)
    finally:
        outer.kill()
        outer.wait()
        clear(cgroup)
        with contextlib.suppress(OSError):
            os.rmdir(private)


def require():
    if os.geteuid() != 0:
        raise Impossible("it needs root")
    if not os.access(SYSTEMD, os.X_OK):
        raise Impossible(f"there is no {SYSTEMD}")
    for tool in ["unshare", "nsenter", "mount", "systemctl", "journalctl", "systemd-analyze", "systemd-sysusers", "runuser"]:
        if shutil.which(tool) is None:
            raise Impossible(f"there is no {tool}")
    tried = subprocess.run(["unshare", *NAMESPACES, "-f", "--mount-proc", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        raise Impossible(f"namespaces are not allowed: {tried.stderr.strip()}")


def own_cgroup():
    """Makes a cgroup below the one that this process is in."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    place = next((mount[1] for mount in mounts if mount[2] == "cgroup2"), None)
    if place is None:
        raise Impossible("no cgroup2 is mounted")
    own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    cgroup = Path(place) / own.lstrip("/") / f"trollbridge-systemd-{os.getpid()}"
    try:
        cgroup.mkdir()
    except OSError as error:
        raise Impossible(f"no cgroup can be made: {error}") from error
    return cgroup


def booted(outer, log):
    """Waits until systemd has started what it starts."""
    end = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < end and outer.poll() is None:
        first = systemd_below(outer.pid)
        if first is not None:
            enter = ["nsenter", "-t", first, *NAMESPACES]
            asked = subprocess.run([*enter, "systemctl", "is-system-running"], capture_output=True, text=True)
            state = asked.stdout.strip() or asked.stderr.strip()
            if state in ("running", "degraded"):
                return enter
        time.sleep(0.1)
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines()
    raise Impossible(f"systemd does not come up in a namespace: {' / '.join(said[-3:]) or state or 'it says nothing'}")


def systemd_below(pid):
    """The child of `unshare`, once it has become systemd."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return child
    return None


def clear(cgroup):
    """Removes the cgroups of a machine that is gone; its last processes may take a moment."""
    for _ in range(100):
        for folder, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if not cgroup.exists():
            return
        time.sleep(0.05)
