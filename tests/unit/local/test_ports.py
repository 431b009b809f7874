"""Ports are checked before anything is started."""

import os
import socket

import pytest

from tunesmith.local.errors import LocalError
from tunesmith.local.ports import DEFAULT_PORTS, is_free, keep_or_pick, parse_overrides, pick_free, require_free


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_listening_port_is_not_free(taken):
    assert not is_free(taken)


def test_a_port_taken_on_every_address_is_not_free_either():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert not is_free(server.getsockname()[1])


def test_picked_ports_are_free_and_different():
    ports = pick_free(20)
    assert len(set(ports)) == 20
    assert all(map(is_free, ports))
    assert max(ports) < 32_768, "where Linux takes ports of outgoing connections from"


def test_a_taken_port_is_named_with_its_owner_and_the_way_out(taken):
    with pytest.raises(LocalError) as caught:
        require_free({"storage": taken, "trainer": pick_free(1)[0]})
    assert caught.value.reason == "PORT_TAKEN"
    assert f"port {taken} of storage is taken by " in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message
    assert "trainer" not in caught.value.message
    assert "--port storage=NUMBER" in caught.value.hint


def test_two_services_cannot_share_a_port():
    port = pick_free(1)[0]
    with pytest.raises(LocalError, match="same port"):
        require_free({"storage": port, "trainer": port})


def test_remembered_ports_are_kept_while_all_are_free(taken):
    free = pick_free(2)
    assert keep_or_pick(free, 2) == free
    assert taken not in keep_or_pick([taken, free[0]], 2)
    assert len(keep_or_pick([], 3)) == 3


def test_overrides_name_services_with_dash_or_underscore():
    assert parse_overrides(["storage=6000", "task-manager=6001"]) == {"storage": 6000, "task_manager": 6001}


@pytest.mark.parametrize("value", ["storage", "storage=", "storage=x", "storage=0", "storage=65536", "kitchen=6000"])
def test_a_wrong_override_lists_the_services(value):
    with pytest.raises(LocalError) as caught:
        parse_overrides([value])
    assert all(service in caught.value.hint for service in DEFAULT_PORTS)
