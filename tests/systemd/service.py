"""The service as an operator meets it: systemctl, the journal, its files."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
UNIT = "trollbridge.service"
SHIPPED = PROJECT / "systemd" / UNIT
PROGRAM = Path("/usr/bin/trollbridge")
SETTINGS = Path("/etc/trollbridge")
STATE = Path("/var/lib/trollbridge")
PID_FILE = Path("/run/trollbridge/trollbridge.pid")
GATEWAY, ADMIN, PROVIDER = ("127.0.0.1", 8080), ("127.0.0.1", 9090), ("127.0.0.1", 8081)
CLIENT_KEY, UPSTREAM_KEY = "tb-planted-client-4c1f", "sk-planted-upstream-90ad"
# Longer than any stream of the test: an end in time was an end by itself.
PATIENCE_SECONDS = 60


def install(binary):
    """Puts the program's files where the package puts them."""
    shutil.copy(binary, PROGRAM)
    shutil.copy(SHIPPED, "/lib/systemd/system")
    shutil.copy(PROJECT / "systemd/trollbridge.sysusers", "/usr/lib/sysusers.d/trollbridge.conf")
    SETTINGS.mkdir()
    shutil.copy(PROJECT / "conf/pingora.yaml", SETTINGS)
    run("systemd-sysusers")
    settle()


def settle():
    """Writes a configuration of the test, whose upstream key comes by LoadCredential."""
    (SETTINGS / "keys").mkdir(mode=0o700)
    (SETTINGS / "keys/k1").write_text(UPSTREAM_KEY + "\n")
    drop_in("credentials", f"LoadCredential=k1:{SETTINGS}/keys/k1")
    configure()
    environment(CLIENT_KEY)


def configure(**changes):
    """Writes config.json; a changed value replaces the usual one."""
    config = {
        "listen": [{"addr": "%s:%d" % GATEWAY, "h2c": True}],
        "admin": {"addr": "%s:%d" % ADMIN},
        "auth": {"mode": "keys", "static_key": "${CLIENT_KEY}"},
        "routing": {"unknown_model": "reject"},
        "upstreams": {"main": {"base_url": "http://%s:%d" % PROVIDER, "key": {"file": "${CREDENTIALS_DIRECTORY}/k1"}}},
        "models": [
            {"id": model, "upstream": "main", "input_price_per_mtok": 3, "output_price_per_mtok": 15}
            for model in ("quick", "stream")
        ],
    }
    (SETTINGS / "config.json").write_text(json.dumps(config | changes))


def environment(client_key):
    path = SETTINGS / "env"
    path.write_text(f"CLIENT_KEY={client_key}\n")
    path.chmod(0o600)


def drop_in(name, *lines):
    folder = Path(f"/etc/systemd/system/{UNIT}.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.conf").write_text("\n".join(["[Service]", *lines, ""]))
    systemctl("daemon-reload")


def drop_out(name):
    Path(f"/etc/systemd/system/{UNIT}.d/{name}.conf").unlink()
    systemctl("daemon-reload")


def replace_program(content, mode=0o755):
    """Replaces the binary on disk as a package manager does: a new file under the old name."""
    new = PROGRAM.with_suffix(".new")
    if isinstance(content, Path):
        shutil.copy(content, new)
    else:
        new.write_bytes(content)
    new.chmod(mode)
    os.replace(new, PROGRAM)


def run(*words):
    """Runs a command that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def of_the_books(*words):
    """Runs a command that works on the state directory, as the service's user; it must succeed."""
    return run("runuser", "-u", "trollbridge", "--", str(PROGRAM), *words, "--state-dir", str(STATE))


def systemctl(*words):
    """Runs systemctl; returns its exit code and what it said."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def must(verb):
    code, said = systemctl(verb, UNIT)
    assert code == 0, f"systemctl {verb}: exit code {code}: {said}{told()}"


def must_fail(verb):
    code, said = systemctl(verb, UNIT)
    assert code != 0, f"systemctl {verb} succeeded: {said}"


def show(name):
    return run("systemctl", "show", "--value", "--property", name, UNIT).strip()


def main_pid():
    """The process that systemd takes for the service; the pid file must say the same."""
    pid = int(show("MainPID"))
    assert pid == int(PID_FILE.read_text()), f"MainPID is {pid}, the pid file says {PID_FILE.read_text()}"
    return pid


def processes():
    """All processes of the unit."""
    group = show("ControlGroup")
    path = Path(f"/sys/fs/cgroup{group}/cgroup.procs")
    return {int(pid) for pid in path.read_text().split()} if group and path.exists() else set()


def journal(lines=200):
    run("journalctl", "--sync")
    return run("journalctl", "--no-pager", "--output", "cat", "--lines", str(lines), "--unit", UNIT)


def told(lines=40):
    """The journal's last lines without those of requests that went well."""
    return "\n".join([line for line in journal(2000).splitlines() if " end=ok " not in line][-lines:])


def cursor():
    """A place in the journal; `journal_since` tells what came after it."""
    run("journalctl", "--sync")
    last = run("journalctl", "--lines", "1", "--output", "json").strip()
    return json.loads(last)["__CURSOR"]


def journal_since(place):
    run("journalctl", "--sync")
    return run("journalctl", "--no-pager", "--output", "cat", "--after-cursor", place, "--unit", UNIT)


def wait(what, condition, seconds=PATIENCE_SECONDS):
    """Waits until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still not after {seconds} s: {what}\n{told()}"
        time.sleep(0.02)
