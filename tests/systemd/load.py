"""Clients of the gateway, and the provider behind it: a prober with a new connection each time, and streams that take seconds.

An answer counts only if it is whole and byte for byte what the provider sent.
"""

import contextlib
import http.client
import json
import subprocess
import tempfile
import threading

import service

ANSWER = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "quick",
          "choices": [{"index": 0, "message": {"role": "assistant", "content": "so quick"}, "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
EVENT_PAUSE_MS, EVENTS = 50, 80
STREAM_SECONDS = EVENT_PAUSE_MS * EVENTS / 1000


def event(content, finish=None):
    delta = {} if content is None else {"content": content}
    chunk = {"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1, "model": "stream",
             "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(chunk)}\n\n"


STREAM = [*(event(f"word {n} ") for n in range(EVENTS)), event(None, "stop"), "data: [DONE]\n\n"]


@contextlib.contextmanager
def provider(binary):
    """The scripted provider, outside the service. It takes no other key than the one that is handed over as a credential."""
    rules = [
        {"model": "stream", "reply": {"pause_ms": EVENT_PAUSE_MS, "body": {"events": STREAM}}},
        {"model": "quick", "reply": {"body": {"json": ANSWER}}},
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as script:
        json.dump({"expects": service.UPSTREAM_KEY, "rules": rules}, script)
        script.flush()
        words = [binary, "mock", "--listen", "%s:%d" % service.PROVIDER, "--script", script.name]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            assert "mock provider on" in process.stdout.readline()
            yield
        finally:
            process.terminate()
            process.wait()


def ask(model, key=service.CLIENT_KEY, begun=None):
    """Sends one request on a new connection; fails unless the whole answer comes. `begun` is set at the first byte of it."""
    connection = http.client.HTTPConnection(*service.GATEWAY, timeout=service.PATIENCE_SECONDS)
    with contextlib.closing(connection):
        body = json.dumps({"model": model, "stream": model == "stream", "messages": [{"role": "user", "content": "hello"}]})
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        answer = connection.getresponse()
        first = answer.read(1)
        if begun is not None:
            begun.set()
        content = first + answer.read()
        assert answer.status == 200, f"{answer.status}: {content[:300]!r}"
        if model == "stream":
            assert content == "".join(STREAM).encode(), f"the stream is not whole: {len(content)} bytes, …{content[-200:]!r}"
        else:
            assert json.loads(content) == ANSWER, content[:300]


def status(key, address=service.GATEWAY):
    """The status that a quick request with this key is answered with."""
    connection = http.client.HTTPConnection(*address, timeout=service.PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": "quick", "messages": []}),
                           {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        return connection.getresponse().status


class Streams:
    """Some streams at the same time; they are under way when this is made."""

    def __init__(self, count):
        self.failures, self.threads = [], []
        begun = [threading.Event() for _ in range(count)]
        for event in begun:
            self.threads.append(threading.Thread(target=self._one, args=(event,)))
            self.threads[-1].start()
        for event in begun:
            event.wait(service.PATIENCE_SECONDS)

    def _one(self, begun):
        try:
            ask("stream", begun=begun)
        except Exception as error:
            self.failures.append(repr(error))
        begun.set()

    def open(self):
        return sum(thread.is_alive() for thread in self.threads)

    def end_whole(self):
        for thread in self.threads:
            thread.join()
        assert not self.failures, f"{len(self.failures)} of {len(self.threads)} streams: {self.failures[0]}"


class Load:
    """Streams that follow each other, and a prober with a new connection every few milliseconds, for as long as the block takes."""

    def __init__(self, streams=8, probe_pause=0.01):
        self.streams, self.probe_pause = streams, probe_pause
        self.probes, self.finished, self.failures = [], [], []
        self.over = threading.Event()

    def __enter__(self):
        self.threads = [threading.Thread(target=self._stream) for _ in range(self.streams)]
        self.threads.append(threading.Thread(target=self._probe))
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _probe(self):
        while not self.over.is_set():
            self._one("quick", self.probes)
            self.over.wait(self.probe_pause)

    def _stream(self):
        while not self.over.is_set():
            self._one("stream", self.finished)

    def _one(self, model, done):
        try:
            ask(model)
        except Exception as error:
            self.failures.append(repr(error))
        # A list, since several threads at a time add to it.
        done.append(model)

    def none_failed(self):
        probes, streams = len(self.probes), len(self.finished)
        assert probes > 0 and streams > 0, f"{probes} probes, {streams} streams: nothing was shown"
        assert not self.failures, f"{len(self.failures)} of {probes + streams} failed: {self.failures[0]}"
        return f"0 of {probes} probes and {streams} streams failed"
