"""`tunesmith registry import`: a model that was made elsewhere."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, talk
from tunesmith.cli.server_place import FromS3, FromServer, require_one_place


def register(app: typer.Typer) -> None:
    """Add the command to those of the registry."""
    app.command("import")(import_model)


def import_model(
    directory: Annotated[
        Path | None,
        typer.Argument(
            help="An adapter or a whole model in Hugging Face's layout.", exists=True, file_okay=False, show_default=False
        ),
    ] = None,
    *,
    name: Annotated[str, typer.Option("--name", help="Registered model it becomes a version of; made when new.")],
    from_server: FromServer = "",
    from_s3: FromS3 = "",
    base_model: Annotated[
        str,
        typer.Option(help="Base model of an adapter.", show_default="the last part of the name in DIRECTORY/adapter_config.json"),
    ] = "",
    alias: Annotated[str, typer.Option(help="Alias that points to the new version from now on.")] = "",
    description: Annotated[str, typer.Option("--description", "-d", help="What it is for.")] = "",
    request_id: Annotated[str, typer.Option(help="Repeating the command with it makes nothing new.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Keep a model that was made elsewhere. Safetensors only; files that could run code are refused."""
    from tunesmith.client import Client

    require_one_place(directory, from_server, from_s3)
    with Client() as client:
        take = (
            partial(client.import_model, directory=directory, base_model=base_model or named_base_model(directory))
            if directory
            else partial(client.import_server_model, directory=from_server, s3_prefix=from_s3, base_model=base_model)
        )
        version = take(name, alias=alias, description=description, request_id=request_id)
    if as_json:
        print_json(version)
        return
    print(version.name)
    talk(f"checksums verified; chat with it: tunesmith model chat {version.name}")


def named_base_model(directory: Path) -> str:
    """What an adapter says of its base model, as an id: `HuggingFaceTB/SmolLM2-135M` is `smollm2-135m`; empty = nothing."""
    try:
        config = json.loads((directory / "adapter_config.json").read_bytes())
        return str(config["base_model_name_or_path"]).rstrip("/").rpartition("/")[2].lower()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
