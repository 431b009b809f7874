"""Health as services tell it, and the status made of it."""

import http.server
import os
import threading
import time
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tunesmith.local.errors import LocalError
from tunesmith.local.health import is_serving, state_of
from tunesmith.local.ports import pick_free
from tunesmith.local.processes import identify
from tunesmith.local.state import DataDirectory, ProcessId, StackState
from tunesmith.local.status import inspect

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def service():
    """A service with only health; `service.set(state)` changes it, `service.address` is where it is."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2), options=[("grpc.so_reuseport", 0)])
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(0).wait()


@pytest.mark.parametrize(("state", "serving", "word"), [(SERVING, True, "SERVING"), (NOT_SERVING, False, "NOT_SERVING")])
async def test_a_service_is_as_it_says(service, state, serving, word):
    service.set("", state)
    assert await is_serving(service.address) is serving
    assert state_of(service.address) == word


async def test_nobody_there_is_not_serving():
    address = f"127.0.0.1:{pick_free(1)[0]}"
    assert not await is_serving(address)
    assert state_of(address) == "unreachable"


@pytest.fixture
def directory(tmp_path):
    directory = DataDirectory(tmp_path)
    directory.create()
    return directory


def stack(service, **processes) -> StackState:
    ours = identify(os.getpid())
    addresses = {"postgres": "127.0.0.1:1", "storage": service.address}
    return StackState(
        "1", ours, time.time() - 61, addresses, {"postgres": ours, "storage": ours, **processes}, {"storage": 2}, ready=True
    )


def test_a_stack_whose_parts_all_answer_is_healthy(service, directory):
    service.set("", SERVING)
    with directory.locked():
        directory.write_stack(stack(service))
        report = inspect(directory)
    assert report.healthy
    assert report.uptime == "0:01:01"
    by_name = {s.name: s for s in report.services}
    assert (by_name["storage"].health, by_name["storage"].restarts, by_name["storage"].pid) == ("SERVING", 2, os.getpid())
    assert by_name["postgres"].health == "running"
    assert by_name["storage"].memory_bytes > 1_000_000


def test_one_part_that_does_not_serve_makes_it_unhealthy(service, directory):
    service.set("", NOT_SERVING)
    with directory.locked():
        directory.write_stack(stack(service))
        report = inspect(directory)
    assert not report.healthy
    assert [s.name for s in report.services if not s.healthy] == ["storage"]


def test_a_part_whose_process_is_gone_is_down(service, directory):
    service.set("", SERVING)
    with directory.locked():
        directory.write_stack(stack(service, postgres=ProcessId(os.getpid(), 1.0)))
        down = [s for s in inspect(directory).services if not s.healthy]
    assert [(s.name, s.health, s.pid, s.memory_bytes) for s in down] == [("postgres", "down", 0, 0)]


def test_a_state_whose_supervisor_is_gone_is_nothing_running(service, directory):
    directory.write_stack(stack(service))
    with pytest.raises(LocalError) as caught:
        inspect(directory)
    assert caught.value.reason == "NOT_RUNNING"


@pytest.fixture
def gateway():
    """A server that answers every GET with `gateway.status`; `gateway.address` is where it is."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "word"), [(200, "SERVING"), (503, "unreachable")])
async def test_the_gateway_is_asked_over_http(gateway, status, word):
    gateway.status = status
    assert state_of(gateway.address, http=True) == word
    assert await is_serving(gateway.address, http=True) is (word == "SERVING")


async def test_no_gateway_there_is_not_serving():
    assert state_of(f"127.0.0.1:{pick_free(1)[0]}", http=True) == "unreachable"


def test_the_gateway_is_part_of_the_status(gateway, service, directory):
    service.set("", SERVING)
    gateway.status = 503
    with directory.locked():
        state = stack(service, gateway=identify(os.getpid()))
        state.addresses["gateway"] = gateway.address
        directory.write_stack(state)
        report = inspect(directory)
    assert [s.name for s in report.services if not s.healthy] == ["gateway"]
