"""`tunesmith up`, `down`, `status`, `doctor`: the local stack."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import DataDir, Json
from tunesmith.cli.output import print_table, size, talk


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(doctor)


def up(
    *,
    data_dir: DataDir = None,
    port: Annotated[list[str] | None, typer.Option(help="SERVICE=PORT, for example storage=6000; repeatable.")] = None,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take free ports instead of 50051 to 50054 and 8080.")] = False,
    base_model: Annotated[bool, typer.Option(help="Register the small base model on the first start.")] = True,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when ready; stop with `tunesmith down`.")] = False,
) -> None:
    """Start everything on this machine: Postgres, S3, storage, task manager, trainer, inference, gateway.

    Needs no account, no container and no configuration. TUNESMITH_POSTGRES_DSN and TUNESMITH_S3_ENDPOINT name your own servers.
    """
    from rich.console import Console

    from tunesmith.local import stack
    from tunesmith.local.ports import parse_overrides
    from tunesmith.local.screen import Screen
    from tunesmith.local.state import data_directory

    options = stack.Options(ports=parse_overrides(port or []), free_ports=free_ports, with_base_model=base_model)
    if detach:
        _detach(data_dir, [f"--port={value}" for value in port or []], free_ports=free_ports, base_model=base_model)
        return
    stack.run(data_directory(data_dir), options, Screen(Console(highlight=False)))


def _detach(data_dir: Path | None, arguments: list[str], *, free_ports: bool, base_model: bool) -> None:
    from tunesmith.local import daemon
    from tunesmith.local.state import data_directory

    directory = data_directory(data_dir)
    talk(f"starting in the background, data in {directory.root}")
    background = daemon.start(
        directory, [*arguments, *(["--free-ports"] if free_ports else []), *([] if base_model else ["--no-base-model"])]
    )
    for name, address in background.state.addresses.items():
        print(f"{name:<14}{address}")
    if gateway := background.state.addresses.get("gateway"):
        talk(f"OpenAI clients: OPENAI_BASE_URL=http://{gateway}/v1 OPENAI_API_KEY={directory.api_key()}")
    talk(f"ready (pid {background.process.pid}); stop it with: tunesmith down")


def down(data_dir: DataDir = None) -> None:
    """Stop the stack; everything is kept."""
    from tunesmith.local import daemon
    from tunesmith.local.state import data_directory

    directory = data_directory(data_dir)
    stopped = daemon.stop(directory)
    talk("stopped; everything is kept in " + str(directory.root) if stopped else f"nothing runs on {directory.root}")


def status(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what runs: services, health, addresses, memory.

    Exit code 0 when all are healthy, 1 when one is not, 5 when nothing runs.
    """
    from tunesmith.local.state import data_directory
    from tunesmith.local.status import inspect

    report = inspect(data_directory(data_dir))
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        rows = [
            (
                s.name,
                "✓ " + s.health if s.healthy else "✗ " + s.health,
                s.address,
                str(s.pid or ""),
                size(s.memory_bytes),
                str(s.restarts),
            )
            for s in report.services
        ]
        print_table(["SERVICE", "HEALTH", "ADDRESS", "PID", "MEMORY", "RESTARTS"], rows, "nothing runs")
        talk(f"data {report.data_dir}, supervisor pid {report.supervisor_pid}, up for {report.uptime}")
    raise typer.Exit(0 if report.healthy else 1)


def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check this machine and the stack; every failed check says what to do.

    Exit code 1 when a check fails.
    """
    from tunesmith.local.doctor import examine
    from tunesmith.local.state import data_directory

    checks = examine(data_directory(data_dir))
    if as_json:
        print(json.dumps({"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]}, indent=2))
    for check in [] if as_json else checks:
        typer.secho(f"{'✓' if check.ok else '✗'} ", fg="green" if check.ok else "red", nl=False)
        print(f"{check.name:<22} {check.found}")
        if not check.ok:
            print(f"    fix: {check.fix}")
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)
