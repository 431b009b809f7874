"""`tunesmith registry import`: a model that was made elsewhere."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, talk


def register(app: typer.Typer) -> None:
    """Add the command to those of the registry."""
    app.command("import")(import_model)


def import_model(
    directory: Annotated[
        Path, typer.Argument(help="An adapter or a whole model in Hugging Face's layout.", exists=True, file_okay=False)
    ],
    name: Annotated[str, typer.Option("--name", help="Registered model it becomes a version of; made when new.")],
    *,
    base_model: Annotated[
        str, typer.Option(help="Base model of an adapter.", show_default="the last part of the name in adapter_config.json")
    ] = "",
    alias: Annotated[str, typer.Option(help="Alias that points to the new version from now on.")] = "",
    description: Annotated[str, typer.Option("--description", "-d", help="What it is for.")] = "",
    request_id: Annotated[str, typer.Option(help="Repeating the command with it makes nothing new.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Keep a model that was made elsewhere. Safetensors only; files that could run code are refused."""
    from tunesmith.client import Client

    base_model = base_model or named_base_model(directory)
    with Client() as client:
        version = client.import_model(
            name, directory, base_model=base_model, alias=alias, description=description, request_id=request_id
        )
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
