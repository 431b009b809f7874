"""`tunesmith up` itself: checks, starts, prepares, follows the logs and stops; the only place that knows the whole stack."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

from rich.text import Text

from tunesmith.local import base_model, log_view, plan
from tunesmith.local.child_process import Child, ChildSpec
from tunesmith.local.errors import LocalError
from tunesmith.local.ports import DEFAULT_PORTS, LOOPBACK, keep_or_pick, require_free
from tunesmith.local.processes import end, identify, with_descendants
from tunesmith.local.screen import Screen
from tunesmith.local.state import DataDirectory, KeptSettings, StackState
from tunesmith.local.supervisor import Supervisor

START_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose."""

    ports: Mapping[str, int]
    """Chosen ports by service; the others get their default."""
    free_ports: bool = False
    with_base_model: bool = True


def run(directory: DataDirectory, options: Options, screen: Screen) -> None:
    """Run the stack until SIGINT or SIGTERM.

    Raises:
        LocalError: before anything was started, or after everything was stopped again.
    """
    directory.create()
    with directory.locked():
        _end_survivors(directory)
        ports, kept = _choose_ports(options, directory.read_settings())
        require_free(ports)
        directory.api_key()
        specs, addresses = _plan(directory, ports, kept)
        log_view.rotate(directory.logs)
        screen.banner(version("tunesmith"), directory.root)
        try:
            asyncio.run(_Stack(directory, options, screen, specs, addresses).run())
        finally:
            directory.remove_stack()


def _end_survivors(directory: DataDirectory) -> None:
    """We hold the lock, so whatever the last state names has lost its supervisor."""
    if state := directory.read_stack():
        end(with_descendants(state.processes.values()), patience_seconds=10)
        directory.remove_stack()


def _choose_ports(options: Options, kept: KeptSettings) -> tuple[dict[str, int], KeptSettings]:
    if options.free_ports:
        kept = replace(kept, service_ports=keep_or_pick(kept.service_ports, len(DEFAULT_PORTS)))
    ports = dict(zip(DEFAULT_PORTS, kept.service_ports, strict=True)) if options.free_ports else DEFAULT_PORTS
    return {**ports, **options.ports}, kept


def _plan(directory: DataDirectory, ports: Mapping[str, int], kept: KeptSettings) -> tuple[list[ChildSpec], dict[str, str]]:
    given = plan.resolve_files(os.environ)
    backends, kept = plan.choose_backends(directory.root, kept, given)
    directory.write_settings(kept)
    specs = [*plan.backend_specs(backends), *plan.service_specs(directory.root, ports, backends, given)]
    addresses = {
        **({"postgres": f"{LOOPBACK}:{backends.cluster.port}"} if backends.cluster else {}),
        **({"object_store": backends.store.endpoint.removeprefix("http://")} if backends.store else {}),
        **{name: f"{LOOPBACK}:{ports[name]}" for name in plan.SERVICES},
    }
    return specs, addresses


class _Stack:
    """One run of the stack, inside the event loop."""

    def __init__(
        self, directory: DataDirectory, options: Options, screen: Screen, specs: list[ChildSpec], addresses: dict[str, str]
    ) -> None:
        self._directory = directory
        self._options = options
        self._screen = screen
        self._addresses = addresses
        self._supervisor = Supervisor(specs, directory.logs, screen.report)
        self._started = time.monotonic()
        self._stop = asyncio.Event()
        self._state = _first_state(addresses)

    async def run(self) -> None:
        """Until stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_stop)
        self._write_state()
        for child in self._supervisor.children.values():
            child.log_path.touch(mode=0o600)
        followers = [
            asyncio.create_task(log_view.follow(name, child.log_path, self._screen.row), name=f"{name} log")
            for name, child in self._supervisor.children.items()
        ]
        try:
            await self._supervisor.run(self._on_ready, self._become_ready(), self._stop)
        finally:
            for follower in followers:
                follower.cancel()
            self._screen.say("stopped; everything is kept in " + str(self._directory.root))

    def _on_stop(self) -> None:
        if self._stop.is_set():
            self._screen.say("killing")
            self._supervisor.hurry()
            return
        self._screen.say("stopping (once more to kill)")
        self._stop.set()

    async def _become_ready(self) -> None:
        await self._supervisor.wait_ready(START_TIMEOUT_SECONDS)
        if self._options.with_base_model:
            await self._prepare_base_model()
        self._state = replace(self._state, ready=True)
        self._write_state()
        self._screen.ready(
            time.monotonic() - self._started, self._addresses, str(self._directory.root), self._directory.api_key()
        )

    async def _prepare_base_model(self) -> None:
        """A stack without its base model is still of use, so this only warns."""
        try:
            await base_model.prepare(self._addresses["storage"], self._directory.root / "models", self._screen.say)
        except LocalError as error:
            self._screen.row(Text(f"warning: {error.message}\n  hint: {error.hint}", style="yellow"))

    def _on_ready(self, child: Child) -> None:
        name = child.spec.name
        process = identify(child.pid) if child.pid else None
        if process is None:  # it died again; its next start is reported
            return
        self._state = replace(
            self._state,
            processes={**self._state.processes, name: process},
            restarts={**self._state.restarts, name: child.restarts},
        )
        self._write_state()
        self._screen.child_ready(name, self._addresses.get(name, ""), child.seconds_to_ready)

    def _write_state(self) -> None:
        self._directory.write_stack(self._state)


def _first_state(addresses: dict[str, str]) -> StackState:
    supervisor = identify(os.getpid())
    assert supervisor is not None, "this process lives"
    return StackState(version=version("tunesmith"), supervisor=supervisor, started_at=time.time(), addresses=addresses)
