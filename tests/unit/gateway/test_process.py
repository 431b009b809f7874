"""`python -m services.gateway` as it is run: exit codes, what it says, and an orderly end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.ports import free_port

DEADLINE_SECONDS = 30


def environment(port: int, **changes: str) -> dict[str, str]:
    addresses = {f"TUNESMITH_GATEWAY_{name}_ADDRESS": "127.0.0.1:1" for name in ("TASK_MANAGER", "STORAGE", "INFERENCE")}
    return {**os.environ, **addresses, "TUNESMITH_GATEWAY_LISTEN": f"127.0.0.1:{port}", **changes}


@contextlib.contextmanager
def started(port: int) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "services.gateway"]
    with subprocess.Popen(command, env=environment(port), stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not _answers(port):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_it_serves_until_sigterm_and_its_log_is_json() -> None:
    port = free_port()
    with started(port) as process:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10)
        with caught.value as answer:
            assert (answer.status, json.load(answer)["error"]["code"]) == (503, "storage_unavailable")
            request_id = answer.headers["x-request-id"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    events = [line["event"] for line in lines]
    assert "server.ready" in events
    assert events[-1] == "server.stopped"
    assert {line["service"] for line in lines} == {"gateway"}
    (refused,) = [line for line in lines if line["event"] == "http.refused"]
    assert (refused["reason"], refused["request_id"]) == ("STORAGE_UNAVAILABLE", request_id)


def test_a_stream_that_runs_does_not_keep_it() -> None:
    port = free_port()
    with started(port) as process, socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in idle.recv(4096)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


def run(port: int, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.gateway"]
    return subprocess.run(command, env=environment(port, **changes), capture_output=True, text=True, timeout=60, check=False)


def test_a_taken_port_ends_it_with_a_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(taken.getsockname()[1])
    assert done.returncode == 2
    assert "Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"TUNESMITH_GATEWAY_LISTEN": "0.0.0.0:80"}, "set TLS_CERT, TLS_KEY and API_KEY"),
        ({"TUNESMITH_GATEWAY_PORT": "80"}, "TUNESMITH_GATEWAY_PORT is not a setting"),
        ({"TUNESMITH_GATEWAY_LISTEN": "127.0.0.1:http"}, "TUNESMITH_GATEWAY_LISTEN"),
        ({"TUNESMITH_GATEWAY_PEER_API_KEY": "k", "TUNESMITH_GATEWAY_STORAGE_ADDRESS": "far:1"}, "only over TLS"),
    ],
    ids=["off loopback", "unknown", "no port", "key in the clear"],
)
def test_bad_settings_are_one_line_and_exit_code_2(changes: dict[str, str], says: str) -> None:
    done = run(free_port(), **changes)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
