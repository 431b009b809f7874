"""What runs on a data directory and how it is; used by `tunesmith status` and `doctor`."""

import time
from dataclasses import dataclass
from datetime import timedelta

import psutil

from tunesmith.local.daemon import running_or_fail
from tunesmith.local.health import HTTP_SERVICES, SERVING, state_of
from tunesmith.local.ports import DEFAULT_PORTS
from tunesmith.local.processes import find
from tunesmith.local.state import DataDirectory, StackState


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One child of the stack; `memory_bytes` is resident memory of it and everything below it."""

    name: str
    health: str
    healthy: bool
    address: str
    pid: int
    memory_bytes: int
    restarts: int


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The whole stack."""

    healthy: bool
    ready: bool
    data_dir: str
    supervisor_pid: int
    uptime: str
    services: list[ServiceStatus]


def inspect(directory: DataDirectory) -> StackStatus:
    """Ask every service.

    Raises:
        LocalError: NOT_RUNNING.
    """
    state = running_or_fail(directory)
    services = [_service(name, address, state) for name, address in state.addresses.items()]
    return StackStatus(
        healthy=all(service.healthy for service in services),
        ready=state.ready,
        data_dir=str(directory.root),
        supervisor_pid=state.supervisor.pid,
        uptime=str(timedelta(seconds=round(time.time() - state.started_at))),
        services=services,
    )


def _service(name: str, address: str, state: StackState) -> ServiceStatus:
    identity = state.processes.get(name)
    process = find(identity) if identity else None
    if process is None:
        health, healthy = "down", False
    elif name in DEFAULT_PORTS:
        health = state_of(address, http=name in HTTP_SERVICES)
        healthy = health == SERVING
    else:
        health, healthy = "running", True
    return ServiceStatus(
        name, health, healthy, address, process.pid if process else 0, _memory(process), state.restarts.get(name, 0)
    )


def _memory(process: psutil.Process | None) -> int:
    """Shared pages are counted once where the system can tell (PSS), because Postgres' processes share most of theirs."""
    total = 0
    for member in [process, *process.children(recursive=True)] if process else []:
        try:
            info = member.memory_full_info()
            total += int(getattr(info, "pss", info.rss))
        except psutil.Error:
            continue
    return total
