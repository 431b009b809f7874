"""Generates docs/reference and docs/errors from what the code says of itself; run by `make docs`, checked by a contract test."""

import ast
import dataclasses
import datetime
import importlib
import inspect
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import typer
from google.protobuf import descriptor_pb2

from docs import works_with
from docs.dataset_errors import EXAMPLES
from docs.openai_page import openai_page
from services.common.catalogue import CATALOGUE
from services.common.dataset_reasons import WARNINGS

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETTINGS = {
    "storage": "services.storage.settings.StorageSettings",
    "task_manager": "services.task_manager.settings.TaskManagerSettings",
    "trainer": "services.trainer.settings.TrainerSettings",
    "inference": "services.inference.settings.InferenceSettings",
    "gateway": "services.gateway.settings.GatewaySettings",
}
_LABELS = {3: "repeated ", 1: "", 2: ""}
_TYPES = {value: name.removeprefix("TYPE_").lower() for name, value in descriptor_pb2.FieldDescriptorProto.Type.items()}


def errors_page() -> str:
    """One row a reason."""
    rows = [
        f"| `{reason}` | {entry.status} | {entry.error_class.value} | {entry.hint} |"
        for reason, entry in sorted(CATALOGUE.items())
    ]
    return "\n".join(
        [
            "# Error catalogue",
            "",
            "Every failed call carries one `google.rpc.ErrorInfo` with one of these reasons; a failed task has one in its",
            "`error`. Branch on the reason, never on the text. Class says who can act: the user, the operator, or time.",
            "",
            "| reason | status | class | what to do |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def dataset_reasons() -> list[str]:
    """Every reason that has a page of its own."""
    return sorted(reason for reason in CATALOGUE if reason.startswith("DATASET_"))


def dataset_error_page(reason: str) -> str:
    """What it means, a file that shows it, and the mended one."""
    entry, example = CATALOGUE[reason], EXAMPLES[reason]
    kind = "A warning; it never refuses a file." if reason in WARNINGS else f"Status {entry.status}."
    lines = [f"# {reason}", "", example.meaning, "", kind, "", f"**What to do.** {entry.hint}", ""]
    for title, content in (("Bad", example.bad), ("Mended", example.good)):
        if content:
            lines += [f"{title}:", "", "```", _visible(content), "```", ""]
    return "\n".join([*lines, "All reasons: [index](README.md).", ""])


def _visible(content: str | bytes) -> str:
    """The text of an example; what an editor would not show is spelled out."""
    text = content if isinstance(content, str) else content.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)


def dataset_errors_index() -> str:
    """One row a page."""
    rows = [f"| [{reason}]({reason}.md) | {EXAMPLES[reason].meaning} |" for reason in dataset_reasons()]
    intro = "What the check of a dataset says, each with an example. `tunesmith data check FILE` runs it without a server."
    return "\n".join(["# Dataset errors and warnings", "", intro, "", "| reason | meaning |", "|---|---|", *rows, ""])


def settings_page() -> str:
    """One section a service."""
    lines = [
        "# Settings",
        "",
        "Settings are environment variables. A secret may also be given as a file: the variable with `_FILE` appended names it.",
        "Unknown names under a service's prefix are an error. Durations are written `15d`, `12h`, `30m`, `10s` or `500ms`.",
    ]
    for service, path in SETTINGS.items():
        lines += ["", f"## {service}", "", "| variable | default | meaning |", "|---|---|---|"]
        lines += _settings_rows(path, f"TUNESMITH_{service.upper()}_")
    return "\n".join([*lines, ""])


def _settings_rows(path: str, prefix: str) -> Iterator[str]:
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    meanings = {key: text for base in reversed(cls.__mro__[:-1]) for key, text in _field_docstrings(base).items()}
    for field in dataclasses.fields(cls):
        variable = field.metadata.get("variable", prefix + field.name.upper())
        yield f"| `{variable}` | {_default(field)} | {meanings.get(field.name, '')} |"


def _default(field: dataclasses.Field) -> str:
    if isinstance(field.default, datetime.timedelta):
        return f"`{_duration(field.default)}`"
    if field.default is not dataclasses.MISSING:
        return f"`{field.default}`" if field.default not in (None, "", ()) else "none"
    if field.default_factory is not dataclasses.MISSING:
        return "computed"
    return "required"


def _duration(span: datetime.timedelta) -> str:
    milliseconds = round(span.total_seconds() * 1000)
    units = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
    unit, size = next((unit, size) for unit, size in units if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}"


def _field_docstrings(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(inspect.getsource(cls)).body
    docstrings = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            docstrings[field.target.id] = " ".join(str(text.value.value).split())
    return docstrings


def api_page() -> str:
    """Every service with its methods, every message with its fields, every enum with its values."""
    lines = ["# API reference", "", "Package `tunesmith.v1`; generated from `protos/tunesmith/v1`.", ""]
    for file in _described_files():
        comments = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
        lines += _file_section(file, lambda path, known=comments: " ".join(known.get(path, "").split()))
    return "\n".join(lines)


def _described_files() -> list[descriptor_pb2.FileDescriptorProto]:
    with tempfile.TemporaryDirectory() as scratch:
        image = pathlib.Path(scratch) / "image.binpb"
        buf = pathlib.Path(sys.executable).parent / "buf"
        subprocess.run([buf, "build", "--as-file-descriptor-set", "-o", image], cwd=ROOT / "protos", check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file
    return sorted((file for file in files if file.package == "tunesmith.v1"), key=lambda file: (not file.service, file.name))


Comment = Callable[[tuple[int, ...]], str]


def _file_section(file: descriptor_pb2.FileDescriptorProto, comment: Comment) -> Iterator[str]:
    for index, service in enumerate(file.service):
        yield from (
            f"## {service.name}",
            "",
            comment((6, index)),
            "",
            "| method | request | response | meaning |",
            "|---|---|---|---|",
        )
        for position, method in enumerate(service.method):
            request = ("stream " if method.client_streaming else "") + _short(method.input_type)
            response = ("stream " if method.server_streaming else "") + _short(method.output_type)
            yield f"| `{method.name}` | {request} | {response} | {comment((6, index, 2, position))} |"
        yield ""
    for index, message in enumerate(file.message_type):
        yield from _message_section(message, (4, index), comment)
    for index, enum in enumerate(file.enum_type):
        yield from _enum_section(enum, (5, index), comment, "")


def _message_section(message: descriptor_pb2.DescriptorProto, path: tuple[int, ...], comment: Comment) -> Iterator[str]:
    yield from (f"### {message.name}", "", comment(path), "")
    if message.field:
        yield from ("| field | type | meaning |", "|---|---|---|")
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for index, field in enumerate(message.field):
        yield f"| `{field.name}` | {_type(field, maps)} | {comment((*path, 2, index))} |"
    yield ""
    for index, enum in enumerate(message.enum_type):
        yield from _enum_section(enum, (*path, 4, index), comment, f"{message.name}.")


def _enum_section(enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...], comment: Comment, owner: str) -> Iterator[str]:
    yield from (f"### {owner}{enum.name}", "", comment(path), "", "| value | number | meaning |", "|---|---|---|")
    for index, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {comment((*path, 2, index))} |"
    yield ""


def _type(field: descriptor_pb2.FieldDescriptorProto, maps: dict[str, descriptor_pb2.DescriptorProto]) -> str:
    name = _short(field.type_name)
    if name in maps:
        key, value = maps[name].field
        return f"map<{_type(key, {})}, {_type(value, {})}>"
    optional = "optional " if field.proto3_optional else ""
    return f"{optional}{_LABELS[field.label]}{name or _TYPES[field.type]}"


def _short(type_name: str) -> str:
    return type_name.removeprefix(".tunesmith.v1.").rpartition(".")[2] if type_name else ""


def cli_page() -> str:
    """Every command with its arguments and options, as the command line itself describes them."""
    from tunesmith.cli.app import app

    lines = ["# Command line", "", "Generated from the commands themselves; `tunesmith COMMAND --help` says the same.", ""]
    lines += ["Exit codes: 0 ok, 1 failed, 2 usage, 3 the task failed, 4 not allowed, 5 unreachable, 130 interrupted.", ""]
    return "\n".join([*lines, *_command_sections(typer.main.get_command(app), "tunesmith")])


def _command_sections(command: Any, path: str) -> Iterator[str]:
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _command_sections(inner, f"{path} {name}")
    if hasattr(command, "commands"):
        return
    yield from (f"## {path}", "", inspect.cleandoc(command.help or ""), "")
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    if parameters:
        yield from ("| argument or option | default | meaning |", "|---|---|---|")
        yield from map(_parameter_row, parameters)
        yield ""


_VALUES = {int: "INTEGER", float: "NUMBER", pathlib.Path: "PATH"}


def _parameter_row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        spelled = parameter.metavar or parameter.name.upper()
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _VALUES.get(parameter.type_descriptor.annotation, 'TEXT')}"
        spelled = ", ".join([*parameter.opts, *parameter.secondary_opts]) + value
    shown = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    default = "required" if parameter.required else "" if shown in (None, False, "", ()) or callable(shown) else f"`{shown}`"
    cells = (f"`{spelled}`", default, " ".join((parameter.help or "").split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "settings.md": settings_page,
    "api.md": api_page,
    "cli.md": cli_page,
    "openai.md": openai_page,
}


def main() -> None:
    """Writes every page."""
    for name, page in PAGES.items():
        (ROOT / "docs" / "reference" / name).write_text(page())
    readme = ROOT / "README.md"
    readme.write_text(works_with.with_table(readme.read_text()))
    errors = ROOT / "docs" / "errors"
    for stale in errors.glob("*.md"):
        stale.unlink()
    (errors / "README.md").write_text(dataset_errors_index())
    for reason in dataset_reasons():
        (errors / f"{reason}.md").write_text(dataset_error_page(reason))


if __name__ == "__main__":
    main()
