"""`tunesmith api`: any RPC of the contract with JSON in and out."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(api)


def api(
    method: Annotated[str, typer.Argument(help="GetTask or TaskManagerService.GetTask; without it, all are listed.")] = "",
    data: Annotated[
        str, typer.Option("--data", "-d", help="The request as JSON, @FILE, or - for standard input; {} when left out.")
    ] = "{}",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One line for each answer.")] = False,
) -> None:
    """Call any RPC. A method that takes a stream takes a JSON array of requests; every answer is one JSON object."""
    from tunesmith.any_rpc import find
    from tunesmith.client import Client

    if not method:
        _list(as_json=as_json)
        return
    rpc = find(method)
    document = _document(data)
    requests = [rpc.request(each) for each in (document if rpc.takes_stream and isinstance(document, list) else [document])]
    with Client() as client:
        for answer in rpc.call(client.connection(rpc.served_by), requests):
            print_json(answer, compact=as_json or rpc.gives_stream)


def _list(*, as_json: bool) -> None:
    from tunesmith.any_rpc import methods

    ways = {(False, False): "", (False, True): "answers stream", (True, False): "requests stream", (True, True): "both stream"}
    rows = [(rpc.name, rpc.served_by, ways[rpc.takes_stream, rpc.gives_stream]) for rpc in methods()]
    if as_json:
        for name, served_by, way in rows:
            print(json.dumps({"method": name, "served_by": served_by, "streams": way}))
        return
    print_table(["METHOD", "SERVED BY", ""], rows, "there are none")


def _document(data: str) -> Any:
    text = sys.stdin.read() if data == "-" else Path(data[1:]).read_text() if data.startswith("@") else data
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"is not JSON: {error}", param_hint="--data") from error
