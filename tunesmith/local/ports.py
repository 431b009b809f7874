"""TCP ports of the local stack: which are free, who holds a taken one; used before anything is started."""

import random
import socket

from tunesmith.local.errors import LocalError

LOOPBACK = "127.0.0.1"
# Systems take ports of outgoing connections from above (Linux from 32768 on), and would take one between our look and our use.
_PICKED_FROM = range(10_240, 32_768)
DEFAULT_PORTS = {"task_manager": 50051, "trainer": 50052, "storage": 50053, "inference": 50054, "gateway": 8080}


def is_free(port: int) -> bool:
    """True when a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick_free(count: int) -> list[int]:
    """`count` different free ports, by chance: another program that looks at the same moment finds others."""
    chance, picked = random.SystemRandom(), set[int]()
    while len(picked) < count:
        if is_free(port := chance.choice(_PICKED_FROM)):
            picked.add(port)
    return list(picked)


def keep_or_pick(remembered: list[int], count: int) -> list[int]:
    """The remembered ports while all of them are free, else new ones."""
    if len(remembered) == count and all(is_free(port) for port in remembered):
        return remembered
    return pick_free(count)


def parse_overrides(values: list[str]) -> dict[str, int]:
    """`["storage=6000"]` as `{"storage": 6000}`.

    Raises:
        LocalError: PORT_INVALID for an unknown service or a number out of range.
    """
    ports: dict[str, int] = {}
    for value in values:
        service, _, number = value.partition("=")
        service = service.strip().replace("-", "_")
        if service not in DEFAULT_PORTS or not number.isdecimal() or not 1 <= int(number) <= 65535:
            raise LocalError("PORT_INVALID", f"--port {value} is not SERVICE=PORT", f"Services: {', '.join(DEFAULT_PORTS)}.")
        ports[service] = int(number)
    return ports


def require_free(ports: dict[str, int]) -> None:
    """Check the ports of all services at once.

    Raises:
        LocalError: PORT_TAKEN names every taken port and, where it can be told, its owner.
    """
    taken = {service: port for service, port in ports.items() if not is_free(port)}
    if len(set(ports.values())) < len(ports):
        raise LocalError("PORT_INVALID", "two services were given the same port", "Give each --port another number.")
    if taken:
        places = "; ".join(f"port {port} of {service} is taken{_owner_of(port)}" for service, port in taken.items())
        service = next(iter(taken))
        raise LocalError(
            "PORT_TAKEN", places, f"Stop that program, choose others with --port {service}=NUMBER, or use --free-ports."
        )


def _owner_of(port: int) -> str:
    import psutil

    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
