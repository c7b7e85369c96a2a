"""What the service promises, in the order of its life. Each function is a case; its docstring is the promise.

A case leaves the service running as it found it, unless the next one says otherwise.
"""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import traceback
from pathlib import Path

import load
import package
import service
from service import PROGRAM, STATE, UNIT, must, must_fail, of_the_books, show, systemctl, wait

MOST_EXPOSURE = 1.5
LOW_PORT = ("127.0.0.1", 443)


def the_unit_is_sound():
    """`systemd-analyze verify` has nothing to say, and the exposure is at most 1.5"""
    unit = f"/lib/systemd/system/{UNIT}"
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    said = [line for line in (verified.stdout + verified.stderr).splitlines() if "trollbridge" in line]
    assert verified.returncode == 0 and not said, "\n".join(said)
    rated = service.run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", rated).group(1))
    assert exposure <= MOST_EXPOSURE, f"exposure {exposure}"
    return f"exposure {exposure}"


def it_starts():
    """A start returns when the gateway serves, as its own user, with its files closed to others"""
    must("start")
    load.ask("quick")
    assert show("ActiveState") == "active" and show("SubState") == "running", show("SubState")
    pid = service.main_pid()
    assert service.processes() == {pid}, f"{service.processes()} beside {pid}"
    owner = service.run("stat", "-c", "%U", f"/proc/{pid}").strip()
    assert owner == "trollbridge", owner
    for folder in ("/run/trollbridge", str(STATE)):
        assert service.run("stat", "-c", "%U %a", folder).strip() == "trollbridge 700", folder
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits), limits
    # As many files as the machine allows: a small one may allow less than the unit asks for.
    assert re.search(r"Max open files +(\d+) +\1 ", limits), limits
    told = service.journal()
    assert "PID file" not in told, f"the pid file came after the end of the start: {told}"


def credentials_stay_inside():
    """The key that came by LoadCredential serves; the journal does not tell it, nor a client's"""
    assert load.status(service.CLIENT_KEY) == 200
    assert load.status("tb-somebody-else") == 401
    wait("the refusal's access line is in the journal", lambda: "refusal=wrong_key" in service.journal())
    journal = service.journal(10_000)
    assert "path=/v1/chat/completions" in journal
    assert service.UPSTREAM_KEY not in journal and service.CLIENT_KEY not in journal


def commands_of_an_operator_work():
    """`client add`, as the service's user or as root, is in force at once; the ledger proves itself while the service runs"""
    by_root = service.run(str(PROGRAM), "client", "add", "bob", "--state-dir", str(STATE))
    for added in (of_the_books("client", "add", "alice"), by_root):
        key = re.search(r"\btb-\S+", added).group(0)
        wait("the new client is known", lambda: load.status(key) == 200)
    of_the_books("ledger", "verify")
    strangers = service.run("find", str(STATE), "!", "-user", "trollbridge")
    assert not strangers, f"not the service's own: {strangers}"


def the_running_service_answers_commands():
    """`status` and `reload`, as the service's user or as root, reach the service from a shell that has none of its variables"""
    files = ["--conf", str(service.SETTINGS / "pingora.yaml"), "--config", str(service.SETTINGS / "config.json")]
    for user in (["runuser", "-u", "trollbridge", "--"], []):
        told = service.run(*user, str(PROGRAM), "status", *files)
        assert str(service.main_pid()) in told and service.UPSTREAM_KEY not in told, told
        service.run(*user, str(PROGRAM), "reload", *files)
    stranger = subprocess.run(["runuser", "-u", "nobody", "--", str(PROGRAM), "status", *files], capture_output=True, text=True)
    assert stranger.returncode != 0 and stranger.stderr, stranger
    return stranger.stderr.strip()


def reloads_lose_nothing():
    """Three reloads under load: no probe and no stream fails, and the old processes go when their streams have ended"""
    pids = [service.main_pid()]
    with load.Load() as clients:
        for _ in range(3):
            time.sleep(1)
            must("reload")
            pids.append(service.main_pid())
        time.sleep(load.STREAM_SECONDS)
    assert len(set(pids)) == 4, f"the main process stayed: {pids}"
    wait("only the last process is left", lambda: service.processes() == {pids[-1]}, seconds=load.STREAM_SECONDS + 5)
    assert show("ActiveState") == "active"
    return clients.none_failed()


def a_reload_reads_everything_again():
    """config.json, the environment file and the binary on disk are in force after a reload"""
    service.environment("tb-another-planted-key")
    shutil.copy(PROGRAM, "/tmp/program")
    service.replace_program(Path("/tmp/program"))
    must("reload")
    # For some milliseconds both processes accept: nobody would otherwise.
    wait("only the new process accepts", lambda: load.status(service.CLIENT_KEY) == 401, seconds=5)
    assert load.status("tb-another-planted-key") == 200
    assert os.path.samefile(f"/proc/{service.main_pid()}/exe", PROGRAM)
    service.environment(service.CLIENT_KEY)
    must("reload")
    wait("the usual key is back", lambda: load.status(service.CLIENT_KEY) == 200, seconds=5)


def a_reload_adds_a_low_port():
    """With the drop-in that the unit's head shows, a reload opens port 443 beside the other one"""
    service.drop_in("low-port", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE")
    service.configure(listen=[{"addr": "%s:%d" % address} for address in (service.GATEWAY, LOW_PORT)])
    must("reload")
    assert load.status(service.CLIENT_KEY) == load.status(service.CLIENT_KEY, LOW_PORT) == 200
    service.drop_out("low-port")
    service.configure()
    # A process with fewer rights could not see the one that it takes over from.
    must("restart")
    load.ask("quick")


def a_broken_configuration_stays_outside():
    """A reload with a broken config.json fails, says why, and costs nothing"""
    broken = {"upstreams": {"main": {"base_url": "nonsense", "key": "x"}}}
    said = refused(lambda: service.configure(**broken), service.configure)
    assert "upstreams.main.base_url" in said, said


def a_broken_pingora_yaml_stays_outside():
    """A reload with a broken pingora.yaml fails, says why, and costs nothing"""
    path = service.SETTINGS / "pingora.yaml"
    good = path.read_text()
    said = refused(lambda: path.write_text(good + "\nthreds: 3\n"), lambda: path.write_text(good))
    assert "threds" in said, said


def a_broken_binary_stays_outside():
    """A reload with a binary that fails, or that is none, fails and costs nothing"""
    good = Path("/tmp/program")
    shutil.copy(PROGRAM, good)
    for content in (b"#!/bin/false\n", b"\x7fELF and then nothing", b""):
        refused(lambda: service.replace_program(content), lambda: service.replace_program(good))


def refused(harm, mend):
    """Reloads with something broken, under load; returns what the journal says of it."""
    before, place = service.main_pid(), service.cursor()
    with load.Load(streams=4) as clients:
        harm()
        must_fail("reload")
        after, state = service.main_pid(), show("ActiveState")
        load.ask("quick")
        mend()
        time.sleep(load.STREAM_SECONDS)
    clients.none_failed()
    assert (after, state) == (before, "active"), f"{state}, main process {before}, then {after}"
    assert service.processes() == {before}, f"{service.processes()} beside {before}"
    return service.journal_since(place)


def it_reloads_after_mending():
    """When the fault is mended, a reload goes through"""
    before = service.main_pid()
    must("reload")
    assert service.main_pid() != before
    load.ask("quick")


def a_signal_reads_the_configuration():
    """SIGHUP puts a changed config.json in force within the same process"""
    before = service.main_pid()
    service.configure(auth={"mode": "keys", "static_key": "tb-planted-by-signal"})
    os.kill(before, signal.SIGHUP)
    wait("the key of the new configuration is in force", lambda: load.status("tb-planted-by-signal") == 200)
    service.configure()
    os.kill(before, signal.SIGHUP)
    wait("the usual key is in force again", lambda: load.status(service.CLIENT_KEY) == 200)
    assert service.main_pid() == before


def a_stop_drains():
    """A stop lets streams end whole, and ends itself right after them"""
    streams = load.Streams(10)
    started = time.monotonic()
    must("stop")
    took = time.monotonic() - started
    assert streams.open() == 0 or took < load.STREAM_SECONDS + 5
    streams.end_whole()
    stopped_well()
    assert took < load.STREAM_SECONDS + 10, f"the stop took {took:.1f} s; streams of {load.STREAM_SECONDS} s were open"
    must("start")
    return f"{took:.1f} s with streams of {load.STREAM_SECONDS} s"


def a_stop_right_after_a_reload_drains_both():
    """A stop while the process before the reload still drains lets the streams of both end whole"""
    old = load.Streams(6)
    must("reload")
    new = load.Streams(2)
    assert len(service.processes()) == 2, service.processes()
    stop = threading.Thread(target=systemctl, args=("stop", UNIT))
    stop.start()
    old.end_whole()
    new.end_whole()
    stop.join()
    stopped_well()
    must("start")


def a_backup_can_be_put_back():
    """A copy made while requests are served, the database first, then the ledger, is a whole state directory"""
    copy = Path("/tmp/backup")
    copy.mkdir()
    with load.Load(streams=4):
        time.sleep(1)
        # What `sqlite3 trollbridge.db ".backup …"` does.
        with sqlite3.connect(STATE / "trollbridge.db") as running, sqlite3.connect(copy / "trollbridge.db") as saved:
            running.backup(saved)
        shutil.copytree(STATE / "ledger", copy / "ledger")
        time.sleep(load.STREAM_SECONDS)
    must("stop")
    shutil.move(STATE, "/tmp/lost")
    shutil.copytree(copy, STATE)
    service.run("chown", "--recursive", "trollbridge:trollbridge", str(STATE))
    must("start")
    load.ask("quick")
    assert "alice" in of_the_books("client", "list")
    return of_the_books("ledger", "verify").strip().splitlines()[-1]


def a_stop_of_an_idle_service_is_quick():
    """With nothing open, a stop does not wait for the grace period"""
    load.ask("quick")
    started = time.monotonic()
    must("stop")
    took = time.monotonic() - started
    stopped_well()
    assert took < 10, f"{took:.1f} s"
    must("start")
    return f"{took:.2f} s"


def stopped_well():
    assert show("ActiveState") == "inactive" and show("Result") == "success", f"{show('ActiveState')}, {show('Result')}"
    assert not service.processes(), service.processes()
    of_the_books("ledger", "verify")


def a_kill_is_followed_by_a_start():
    """A process that was killed is started again by systemd"""
    before = service.main_pid()
    os.kill(before, signal.SIGKILL)
    wait("another process serves", lambda: show("ActiveState") == "active" and int(show("MainPID")) not in (0, before))
    load.ask("quick")
    assert show("NRestarts") != "0"


def a_crash_right_after_a_reload_heals():
    """A new process that is killed while the old one drains is started again; the streams of the old one end whole"""
    old = load.Streams(6)
    must("reload")
    os.kill(service.main_pid(), signal.SIGKILL)
    started = time.monotonic()
    old.end_whole()
    wait("the service is back", lambda: show("ActiveState") == "active" and show("MainPID") != "0")
    load.ask("quick")
    return f"back after {time.monotonic() - started:.1f} s"


def a_failed_start_says_why():
    """A start with a broken configuration, or with a port that is taken, fails; `systemctl status` shows the reason"""
    must("stop")
    service.drop_in("no-restart", "Restart=no")
    service.configure(modles=[])
    must_fail("start")
    _, said = systemctl("status", "--no-pager", "--full", UNIT)
    assert "modles" in said and "did you mean `models`" in said, said
    service.configure()
    with socket.create_server(service.GATEWAY):
        must_fail("start")
        _, said = systemctl("status", "--no-pager", "--full", UNIT)
        assert "127.0.0.1:8080" in said, said
    systemctl("reset-failed", UNIT)
    must("start")
    load.ask("quick")


ALL = [
    the_unit_is_sound,
    it_starts,
    credentials_stay_inside,
    commands_of_an_operator_work,
    the_running_service_answers_commands,
    reloads_lose_nothing,
    a_reload_reads_everything_again,
    a_reload_adds_a_low_port,
    a_broken_configuration_stays_outside,
    a_broken_pingora_yaml_stays_outside,
    a_broken_binary_stays_outside,
    it_reloads_after_mending,
    a_signal_reads_the_configuration,
    a_stop_drains,
    a_stop_right_after_a_reload_drains_both,
    a_backup_can_be_put_back,
    a_stop_of_an_idle_service_is_quick,
    a_kill_is_followed_by_a_start,
    a_crash_right_after_a_reload_heals,
    a_failed_start_says_why,
]


def run(binary, deb=None):
    """Runs all cases; returns the exit code. A case that fails ends the run, since the next ones build on it."""
    cases = ALL
    if deb is None:
        service.install(binary)
    else:
        cases = [*package.first(deb), *ALL, *package.last(deb)]
    with load.provider(binary):
        for case in cases:
            promise = " ".join(case.__doc__.split())
            try:
                figures = case()
            except Exception:
                print(f"FAILED {promise}\n{traceback.format_exc()}\nthe journal's last lines:\n{service.told()}", flush=True)
                return 1
            print(f"ok {promise}{f': {figures}' if figures else ''}", flush=True)
    print(f"{len(cases)} cases passed")
    return 0
