"""`tunesmith model add`: a model of one's own as a base model."""

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, size, talk


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(add)


def add(
    directory: Annotated[
        Path,
        typer.Argument(help="Safetensors, tokenizer and chat template in Hugging Face's layout.", exists=True, file_okay=False),
    ],
    name: Annotated[str, typer.Option("--id", help="ID of the base model, as in baseModels/ID.")],
    *,
    display_name: Annotated[str, typer.Option("--name", help="What people call it; its ID when left out.")] = "",
    license_id: Annotated[str, typer.Option("--license", help="SPDX identifier, for example Apache-2.0.")] = "",
    as_json: Json = False,
) -> None:
    """Store a model as a base model. Family, parameters and context length are read from its files."""
    from tunesmith.client import Client
    from tunesmith.model_directory import read_model_directory

    facts = read_model_directory(directory)
    with Client() as client:
        model = client.register_base_model(
            name,
            directory,
            display_name=display_name or name,
            family=facts.family,
            parameter_count=facts.parameter_count,
            context_length=facts.context_length,
            license=license_id,
        )
    if as_json:
        print_json(model)
        return
    count = f"{model.parameter_count / 1e6:,.1f} M parameters"
    print(f"{model.name}: {count}, {model.context_length:,} tokens, {size(model.size_bytes)}")
    if model.chat_template_problem:
        talk(f"it cannot train on conversations: {model.chat_template_problem}")
    talk(f"tune it: tunesmith task create --model {name} --data DATASET --watch")
