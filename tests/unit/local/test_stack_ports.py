"""Which ports the services get."""

import pytest

from tunesmith.local.ports import DEFAULT_PORTS, pick_free
from tunesmith.local.stack import Options, _choose_ports
from tunesmith.local.state import KeptSettings

KEPT = KeptSettings(postgres_password="pw", s3_access_key="access", s3_secret_key="secret")


def test_by_default_they_are_the_well_known_ones_and_nothing_is_remembered():
    assert _choose_ports(Options(ports={}), KEPT) == (DEFAULT_PORTS, KEPT)


@pytest.mark.parametrize("free_ports", [True, False])
def test_a_chosen_port_goes_before_the_others(free_ports):
    ports, _ = _choose_ports(Options(ports={"storage": 6000}, free_ports=free_ports), KEPT)
    assert ports["storage"] == 6000
    assert len(ports) == len(DEFAULT_PORTS)


def test_free_ports_are_remembered_and_used_again_while_they_are_free():
    ports, kept = _choose_ports(Options(ports={}, free_ports=True), KEPT)
    assert sorted(ports) == sorted(DEFAULT_PORTS)
    assert list(ports.values()) == kept.service_ports
    assert _choose_ports(Options(ports={}, free_ports=True), kept) == (ports, kept)


def test_remembered_ports_are_not_used_without_the_option():
    kept = KeptSettings("pw", "access", "secret", service_ports=pick_free(len(DEFAULT_PORTS)))
    assert _choose_ports(Options(ports={}), kept)[0] == DEFAULT_PORTS
