"""`tunesmith model ls` and `model show`: base models, and what each of them can be tuned with."""

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_fields, print_json, print_table, size, talk, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.base_model_pb2 import BaseModel
    from tunesmith.v1.task_manager_service_pb2 import ListTuningsResponse


class _Sort(enum.StrEnum):
    ID = "id"
    PARAMETERS = "parameters"
    NEWEST = "newest"
    CONTEXT = "context"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(ls)
    app.command()(show)


def ls(
    *,
    family: Annotated[str, typer.Option(help="Only of this family, for example llama.")] = "",
    license_id: Annotated[str, typer.Option("--license", help="Only under this licence, for example Apache-2.0.")] = "",
    text: Annotated[str, typer.Option(help="Only with this text in ID or name.")] = "",
    max_parameters: Annotated[
        float, typer.Option(help="Only up to so many millions of parameters; 0 = any.", min=0, max=1e9)
    ] = 0,
    conversations: Annotated[bool, typer.Option("--conversations", help="Only those that can learn conversations.")] = False,
    sort: Annotated[_Sort, typer.Option(help="What comes first: the smallest, the newest, or the longest context.")] = _Sort.ID,
    as_json: Json = False,
) -> None:
    """List base models."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.list_base_models(
            order="" if sort is _Sort.ID else sort,
            family=family,
            license=license_id,
            text=text,
            max_parameter_count=round(max_parameters * 1e6),
            trains_conversations=conversations,
        )
        if as_json:
            for model in found:
                print_json(model, compact=True)
            return
        rows = [
            (
                bare_id(m.name),
                m.display_name,
                m.family,
                f"{m.parameter_count / 1e6:,.0f} M",
                m.dtype,
                f"{m.context_length:,}",
                size(m.size_bytes),
                m.license,
                "text only" if m.chat_template_problem else "yes",
            )
            for m in found
        ]
    headers = ["ID", "NAME", "FAMILY", "PARAMETERS", "DTYPE", "CONTEXT", "SIZE", "LICENCE", "TRAINS"]
    is_filtered = bool(family or license_id or text or max_parameters or conversations)
    print_table(headers, rows, "no base model is like that" if is_filtered else "no base models are registered")


def show(model: Annotated[str, typer.Argument(help="ID or name of a base model.")], as_json: Json = False) -> None:
    """Show one base model, and what it can be tuned with."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.get_base_model(model)
        tunings = _tunings(client, found.name)
    if as_json:
        print_json(found, *filter(None, [tunings]))
        return
    print_fields(
        [
            ("name", found.name),
            ("called", found.display_name),
            ("family", found.family),
            ("parameters", f"{found.parameter_count:,}"),
            ("dtype", found.dtype),
            ("context", f"{found.context_length:,} tokens"),
            ("licence", found.license),
            ("conversations", _conversations(found)),
            ("size", size(found.size_bytes)),
            ("revision", found.revision),
            ("created", when(found.create_time)),
            ("files", "\n".join(f"{file.path} ({size(file.size_bytes)})" for file in found.files)),
        ]
    )
    if tunings:
        print(f"\nmemory of a run by default, with rows of {tunings.max_seq_length:,} tokens:")
        _print_tunings(tunings)


def _conversations(model: "BaseModel") -> str:
    return f"cannot learn them: {model.chat_template_problem}" if model.chat_template_problem else "can learn them"


def _tunings(client: "Client", name: str) -> "ListTuningsResponse | None":
    """None when the task manager cannot be asked: what storage knows is told all the same."""
    from tunesmith.errors import TunesmithError

    try:
        return client.list_tunings(name)
    except TunesmithError as error:
        talk(f"what it can be tuned with is not known: {error.message}")
        return None


def _print_tunings(found: "ListTuningsResponse") -> None:
    """A row for each method, a column for each tuning; every reason once."""
    from tunesmith.v1.task_spec_pb2 import FineTuning

    cells: dict[str, dict[str, str]] = {}
    refused: dict[str, dict[str, list[str]]] = {}
    for each in found.tunings:
        method, tuning = FineTuning.Method.Name(each.method).lower(), FineTuning.Tuning.Name(each.tuning).lower()
        memory = size(each.memory_bytes) if each.memory_bytes else "not known"
        cells.setdefault(method, {})[tuning] = "refused" if each.problem else memory
        if each.problem:
            refused.setdefault(each.problem, {}).setdefault(tuning, []).append(method)
    columns = list(dict.fromkeys(tuning for row in cells.values() for tuning in row))
    rows = [(method, *(row.get(tuning, "") for tuning in columns)) for method, row in cells.items()]
    print_table(["METHOD", *(tuning.upper() for tuning in columns)], rows, "it cannot be tuned")
    for problem, by_tuning in refused.items():
        ways = "; ".join(
            tuning if len(methods) == len(cells) else f"{tuning} with {', '.join(methods)}"
            for tuning, methods in by_tuning.items()
        )
        print(f"refused: {ways}: {problem}")
