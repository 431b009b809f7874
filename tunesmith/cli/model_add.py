"""`tunesmith model add`: a model of one's own as a base model."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, size, talk
from tunesmith.cli.progress import transfer_progress
from tunesmith.cli.server_place import FromS3, FromServer, require_one_place

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.base_model_pb2 import BaseModel


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(add)


def add(
    directory: Annotated[
        Path | None,
        typer.Argument(
            help="Safetensors, tokenizer and chat template in Hugging Face's layout, or a GGUF file.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    *,
    name: Annotated[str, typer.Option("--id", help="ID of the base model, as in baseModels/ID.")],
    from_server: FromServer = "",
    from_s3: FromS3 = "",
    hub: Annotated[str, typer.Option(help="Fetch it from Hugging Face's hub: OWNER/NAME or OWNER/NAME@REVISION.")] = "",
    display_name: Annotated[str, typer.Option("--name", help="What people call it; its ID when left out.")] = "",
    license_id: Annotated[str, typer.Option("--license", help="SPDX identifier, for example Apache-2.0.")] = "",
    as_json: Json = False,
) -> None:
    """Store a model as a base model. Family, parameters and context length are read from its files."""
    from tunesmith.client import Client

    require_one_place(directory, from_server, from_s3, hub)
    with Client() as client:
        if hub:
            model = _from_hub(client, name, hub, display_name or hub.partition("@")[0], license_id)
        elif directory:
            model = _sent(client, name, directory, display_name or name, license_id)
        else:
            model = client.register_server_base_model(
                name, directory=from_server, s3_prefix=from_s3, display_name=display_name or name, license=license_id
            )
    if as_json:
        print_json(model)
        return
    count = f"{model.parameter_count / 1e6:,.1f} M parameters"
    print(f"{model.name}: {count}, {model.context_length:,} tokens, {size(model.size_bytes)}")
    if license_id and model.license != license_id:
        talk(f"these files were registered before, under {model.license or 'no licence'}; nothing has changed")
    if model.chat_template_problem:
        talk(f"it cannot train on conversations: {model.chat_template_problem}")
    talk(f"tune it: tunesmith task create --model {name} --data DATASET --watch")


def _sent(client: "Client", name: str, directory: Path, display_name: str, license_id: str) -> "BaseModel":
    from tunesmith.model_directory import read_model_directory

    with _layout(directory) as (files, found_license):
        facts = read_model_directory(files)
        return client.register_base_model(
            name,
            files,
            display_name=display_name,
            family=facts.family,
            parameter_count=facts.parameter_count,
            context_length=facts.context_length,
            license=license_id or found_license,
        )


def _from_hub(client: "Client", name: str, hub: str, display_name: str, license_id: str) -> "BaseModel":
    from tunesmith.hub import Hub

    source = Hub()
    found = source.model(hub)
    with tempfile.TemporaryDirectory() as scratch:
        with transfer_progress(found.repository) as progress:
            source.fetch(found, Path(scratch), progress)
        talk(f"{found.repository} at commit {found.commit[:12]}, {len(found.files)} files")
        return _sent(client, name, Path(scratch), display_name, license_id or found.license)


@contextlib.contextmanager
def _layout(given: Path) -> Iterator[tuple[Path, str]]:
    """A directory in Hugging Face's layout and the licence that is known; a GGUF file is converted into one for the time."""
    if given.is_dir():
        yield given, ""
        return
    if given.suffix.lower() != ".gguf":
        raise typer.BadParameter(f"{given} is neither a directory nor a .gguf file", param_hint="DIRECTORY")
    import asyncio

    from tunesmith.local.base_model import convert

    talk(f"converting {given.name}: its weights become float16, as exact as the quantization left them")
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "model"
        facts = asyncio.run(
            convert(given, target, hint="Only families that transformers reads from GGUF can be added, as Llama.")
        )
        yield target, str(facts["license"])
