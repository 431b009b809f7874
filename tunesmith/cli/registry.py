"""`tunesmith registry …`: what was exported, kept for good."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import registry_lineage
from tunesmith.cli.options import Json
from tunesmith.cli.output import print_fields, print_json, print_table, size, talk, when
from tunesmith.cli.progress import transfer_progress
from tunesmith.cli.version_text import format_name
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.registered_model_pb2 import ModelVersion, RegisteredModel

app = typer.Typer(help="Registered models: versions of exported artifacts, and their aliases.", no_args_is_help=True)
registry_lineage.register(app)

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a registered model.")]
_Version = Annotated[
    str, typer.Argument(metavar="MODEL[@VERSION]", help="MODEL is its newest version; @ takes a number or an alias.")
]


@app.command()
def ls(as_json: Json = False) -> None:
    """List registered models."""
    from tunesmith.client import Client

    with Client() as client:
        if as_json:
            for model in client.list_models():
                print_json(model, compact=True)
            return
        rows = [
            (bare_id(m.name), str(m.version_count), str(m.newest_version), _aliases(m), when(m.create_time))
            for m in client.list_models()
        ]
    nothing = "no models yet; make one with: tunesmith artifact export ARTIFACT MODEL"
    print_table(["MODEL", "VERSIONS", "NEWEST", "ALIASES", "CREATED"], rows, nothing)


@app.command()
def show(model: _Version, as_json: Json = False) -> None:
    """Show a model and its versions, or one version when it is named with @."""
    from tunesmith.client import Client

    with Client() as client:
        if "@" in model or "/versions/" in model:
            version = client.get_model_version(model)
            print_json(version) if as_json else _print_version(version)
            return
        found = client.get_model(model)
        if as_json:
            print_json(found)
            return
        rows = [_row(version) for version in client.list_model_versions(model)]
    print_fields([("name", found.name), ("aliases", _aliases(found)), ("created", when(found.create_time))])
    print_table(["VERSION", "FORMAT", "ALIASES", "BASE MODEL", "SIZE", "CREATED", "FOR"], rows, "all versions have been deleted")


@app.command()
def card(model: _Version, as_json: Json = False) -> None:
    """Print the model card of a version: what it is, where it comes from, its metrics, licence and limits."""
    from tunesmith.client import Client

    with Client() as client:
        text = client.get_model_card(model)
    if as_json:
        import json

        print(json.dumps({"card": text}, ensure_ascii=False))
    else:
        print(text, end="")


@app.command()
def alias(
    model: _Model,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="For example champion.")],
    version: Annotated[
        int, typer.Argument(help="The version it points to from now on; 0 removes the alias.", min=0, max=2**31 - 1)
    ],
    as_json: Json = False,
) -> None:
    """Point an alias to a version."""
    from tunesmith.client import Client

    with Client() as client:
        changed = client.set_model_alias(model, name, version)
    if as_json:
        print_json(changed)
    else:
        print(f"{changed.name} {_aliases(changed)}".rstrip())


@app.command()
def download(
    model: _Version,
    directory: Annotated[Path | None, typer.Argument(help="Where to; default: ./MODEL-VERSION.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Download every file of a version and verify its checksum."""
    from tunesmith.client import Client

    with Client() as client:
        version = client.get_model_version(model)
        target = directory or Path(f"{version.name.split('/')[1]}-{version.version}")
        with transfer_progress(target.name) as progress:
            paths = client.download_model(version.name, target, progress)
    if as_json:
        import json

        print(json.dumps({"directory": str(target), "files": [str(path) for path in paths]}, indent=2))
        return
    for path in paths:
        print(path)
    talk(f"{len(paths)} files, checksums verified")


@app.command()
def rm(
    model: Annotated[str, typer.Argument(metavar="MODEL@NUMBER", help="The version, by its number.")], as_json: Json = False
) -> None:
    """Delete a version that no alias points to."""
    from tunesmith.client import Client

    with Client() as client:
        client.delete_model_version(model)
    if as_json:
        print("{}")
    else:
        talk(f"{model} is deleted")


def _aliases(model: "RegisteredModel") -> str:
    return ", ".join(f"{alias} → {version}" for alias, version in sorted(model.aliases.items()))


def _row(version: "ModelVersion") -> tuple[str, ...]:
    base, made = bare_id(version.manifest.base_model), when(version.create_time)
    purpose = version.description.partition("\n")[0][:60]
    return (str(version.version), format_name(version), ", ".join(version.aliases), base, size(version.size_bytes), made, purpose)


def _print_version(version: "ModelVersion") -> None:
    manifest = version.manifest
    print_fields(
        [
            ("name", version.name),
            ("aliases", ", ".join(version.aliases)),
            ("format", format_name(version)),
            ("for", version.description),
            ("artifact", version.artifact),
            ("task", manifest.task),
            ("step", str(manifest.step)),
            ("base model", manifest.base_model),
            ("data sha256", manifest.dataset_sha256),
            ("metrics", "\n".join(f"{name}={value:.6g}" for name, value in sorted(manifest.metrics.items()))),
            ("size", size(version.size_bytes)),
            ("files", "\n".join(f"{file.path} ({size(file.size_bytes)})" for file in manifest.files)),
            ("created", when(version.create_time)),
        ]
    )
