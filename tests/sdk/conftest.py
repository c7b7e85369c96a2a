"""Starts `trollbridge mock` and `trollbridge run` once for all tests; both are ended by their own handles."""

import json
import os
import pathlib
import queue
import socket
import subprocess
import threading
import time

import anthropic
import openai
import pytest

CLIENT_KEY = "sdk-client-key"
UPSTREAM_KEY = "sk-sdk-upstream-planted-4d7be19a"
START_SECONDS = 60

MODELS = ["mock-model", "cut-stream", "no-terminator", "err-late"]
STATUSES = [400, 401, 402, 403, 404, 413, 422, 429, 500, 503, 529]


def script():
    """Rules by model name, so that a test picks a fault by the model that it asks for."""
    rules = [{"model": f"err-{status}", "reply": {"status": status, "body": "leaking"}} for status in STATUSES]
    rules += [
        {"model": "cut-stream", "reply": {"ending": {"cut": {"after": {"events": 5}, "how": "close"}}}},
        {"model": "no-terminator", "reply": {"ending": "no_terminator"}},
        {"model": "err-late", "reply": {"status": 429, "headers": [["retry-after", "7"], ["x-ratelimit-remaining-requests", "0"]]}},
    ]
    return {"expects": UPSTREAM_KEY, "rules": rules}


def config(address, mock_url):
    models = MODELS + [f"err-{status}" for status in STATUSES]
    return {
        "listen": [{"addr": address}],
        "auth": {"mode": "keys", "static_key": "${PROXY_API_KEY}"},
        "upstreams": {"main": {"base_url": mock_url, "key": "${MAIN_UPSTREAM_KEY}"}},
        "models": [{"id": model, "upstream": "main"} for model in models],
    }


class Child:
    """A process whose output is read all the time, so that it never blocks on a full pipe."""

    def __init__(self, arguments, **options):
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
        self.lines = []
        self.fresh = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            self.fresh.put(line)

    def first_line(self):
        return self.fresh.get(timeout=START_SECONDS)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        return "".join(self.lines)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_accepts(child, port):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {child.process.returncode}:\n{child.end()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the gateway does not accept:\n{child.end()}")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """The address of a gateway whose models all go to `main`, which is the scripted provider."""
    binary = str(pathlib.Path(os.environ["TROLLBRIDGE_BIN"]).resolve())
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "script.json").write_text(json.dumps(script()))
    mock = Child([binary, "mock", "--listen", "127.0.0.1:0", "--script", str(directory / "script.json")])
    try:
        mock_url = mock.first_line().split()[-1]
        port = free_port()
        (directory / "config.json").write_text(json.dumps(config(f"127.0.0.1:{port}", mock_url)))
        (directory / "pingora.yaml").write_text(
            f"---\nversion: 1\nthreads: 2\npid_file: {directory}/pid\nupgrade_sock: {directory}/upgrade.sock\n"
        )
        child = Child(
            [binary, "run", "--config", str(directory / "config.json"), "--conf", str(directory / "pingora.yaml")],
            cwd=directory,
            env={"PROXY_API_KEY": CLIENT_KEY, "MAIN_UPSTREAM_KEY": UPSTREAM_KEY},
        )
        wait_until_it_accepts(child, port)
        yield f"http://127.0.0.1:{port}"
        printed = child.end()
        assert UPSTREAM_KEY not in printed and CLIENT_KEY not in printed, "a key is in the gateway's output"
    finally:
        mock.end()


@pytest.fixture
def oai(gateway):
    return openai.OpenAI(base_url=f"{gateway}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=30)


@pytest.fixture
def ant(gateway):
    return anthropic.Anthropic(base_url=gateway, api_key=CLIENT_KEY, max_retries=0, timeout=30)


@pytest.fixture
def leaks():
    """Fails the test when a text of the provider's private ones is in what the client got."""
    private = [UPSTREAM_KEY, "org-Canary7Troll", "acct_canary_4711", "gpu-canary-12", "sk-canary-0123456789", "127.0.0.1"]

    def check(text):
        found = [word for word in private if word in text]
        assert not found, f"{found} in {text}"

    return check
