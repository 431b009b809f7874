"""Who listens to a network that has gone silent learns of it, and servers take the pings for no attack."""

import pytest

from services.common import channels, server
from services.task_manager.domain.attempt import LOST_ANSWER
from tunesmith import connection

SERVER = dict(server._OPTIONS)
CLIENTS = {"services": dict(channels._OPTIONS), "sdk": dict(connection._OPTIONS)}


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_ping_as_often_as_servers_permit_and_give_up_before_a_minute(client: str) -> None:
    options = CLIENTS[client]
    assert options["grpc.keepalive_time_ms"] >= SERVER["grpc.http2.min_ping_interval_without_data_ms"]
    assert options["grpc.keepalive_time_ms"] + options["grpc.keepalive_timeout_ms"] < 60_000


def test_services_ping_on_idle_channels_and_servers_permit_it() -> None:
    assert CLIENTS["services"]["grpc.keepalive_permit_without_calls"] == SERVER["grpc.keepalive_permit_without_calls"] == 1


def test_an_answer_that_was_lost_is_older_than_the_connection_it_was_lost_on() -> None:
    options = CLIENTS["services"]
    given_up = options["grpc.keepalive_time_ms"] + options["grpc.keepalive_timeout_ms"]
    assert given_up < LOST_ANSWER.total_seconds() * 1000, "or a strict trainer's run would be given away while it goes on"


def test_servers_notice_readers_that_are_gone() -> None:
    assert 0 < SERVER["grpc.keepalive_time_ms"] + SERVER["grpc.keepalive_timeout_ms"] <= 90_000
