"""Tests the shipped unit under a real systemd: `python3 tests/systemd BIN [DEB]`; scripts/systemd-test calls it.

BIN is the trollbridge binary. With DEB, the program is installed from that package and purged at the end, else file by file.
Exit code 0: passed, or skipped with the reason. TROLLBRIDGE_SYSTEMD_TEST=required makes a skip a failure.
"""

import os
import subprocess
import sys
from pathlib import Path

import cases
import namespace


def main(words):
    if words[:1] == ["--inside"]:
        return cases.run(*words[1:])
    if not 1 <= len(words) <= 2 or not os.access(words[0], os.X_OK):
        print("usage: systemd-test BIN [DEB]   (BIN is the trollbridge binary, DEB its package)", file=sys.stderr)
        return 64
    files = [str(Path(word).resolve()) for word in words]
    try:
        with namespace.machine() as enter:
            inside = [sys.executable, "-B", str(Path(__file__).parent.resolve()), "--inside", *files]
            return subprocess.run([*enter, *inside]).returncode
    except namespace.Impossible as why:
        print(f"SKIP systemd: {why}")
        return 1 if os.environ.get("TROLLBRIDGE_SYSTEMD_TEST") == "required" else 0


sys.exit(main(sys.argv[1:]))
