"""What the Debian package promises: cases for before and after those of the service."""

import time
from pathlib import Path

import load
import service
from service import SETTINGS, must, show, wait


def first(deb):
    """The cases with which the service gets installed."""

    def the_package_installs_and_serves():
        """The package makes the user, enables and starts the service; what is not filled in yet is said in the journal"""
        # Images of containers have one that forbids every start.
        Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
        service.run("dpkg", "--install", deb)
        assert show("ActiveState") == "active" and show("UnitFileState") == "enabled", f"{show('ActiveState')}, {show('UnitFileState')}"
        wait("the gateway answers", lambda: load.status("tb-nobody") == 401)
        assert service.run("stat", "-c", "%U %a", SETTINGS / "env").strip() == "root 600"
        for said in ("PROXY_API_KEY", "MAIN_TARGET_SERVER is not set", "TROLL_API_KEY is not set"):
            assert said in service.journal(), said
        service.run("/usr/bin/trollbridge", "check", "--config", SETTINGS / "config.json")
        must("stop")
        service.settle()

    return [the_package_installs_and_serves]


def last(deb):
    """The cases that take the package through an upgrade and away."""

    def an_upgrade_of_the_package_loses_nothing():
        """Installing the package again replaces the process without losing a request, and keeps the configuration"""
        before, config = service.main_pid(), (SETTINGS / "config.json").read_text()
        with load.Load() as clients:
            time.sleep(1)
            service.run("dpkg", "--install", "--force-confold", deb)
            time.sleep(load.STREAM_SECONDS)
        assert service.main_pid() != before and (SETTINGS / "config.json").read_text() == config
        return clients.none_failed()

    def a_purge_keeps_the_books():
        """Removing the package drains and stops the service; a purge takes the configuration, and leaves the ledger"""
        streams = load.Streams(4)
        service.run("dpkg", "--remove", "trollbridge")
        streams.end_whole()
        assert (SETTINGS / "config.json").exists() and not service.PROGRAM.exists()
        service.run("dpkg", "--purge", "trollbridge")
        assert not (SETTINGS / "config.json").exists() and not (SETTINGS / "env").exists()
        assert any(Path("/var/lib/trollbridge/ledger").iterdir())
        left = service.run("find", "/usr", "/etc", "-name", "*trollbridge*", "-not", "-path", "*.service.d", "-not", "-path", SETTINGS)
        assert not left, left

    return [an_upgrade_of_the_package_loses_nothing, a_purge_keeps_the_books]
