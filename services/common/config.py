"""Settings from the environment into frozen dataclasses; every service's `__main__` uses it.

A field `listen` of a class loaded under the prefix `TUNESMITH_STORAGE_` is read from `TUNESMITH_STORAGE_LISTEN`, or for a
`Secret` also from the file named by `TUNESMITH_STORAGE_LISTEN_FILE`. `shared("TUNESMITH_POSTGRES_DSN")` renames one field.
"""

import dataclasses
import datetime
import difflib
import pathlib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

Settings = TypeVar("Settings")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ConfigError(Exception):
    """A setting is missing, malformed or unknown; the message names the variable and what it expects."""


class Secret(str):
    """A text that never shows in logs or representations."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def shared(variable: str, **options: Any) -> Any:
    """A field read from `variable` whatever the prefix; `options` as for dataclasses.field."""
    return dataclasses.field(metadata={"variable": variable}, **options)


def load(cls: type[Settings], prefix: str, environment: Mapping[str, str]) -> Settings:
    """Reads `cls` from the environment; raises ConfigError for the first problem, unknown names under `prefix` included."""
    fields = {_variable(field, prefix): field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    _refuse_unknown(prefix, environment, set(fields))
    hints = typing.get_type_hints(cls)
    values = {}
    for variable, field in fields.items():
        text = _read(variable, hints[field.name], environment)
        if text is not None:
            values[field.name] = _parse(variable, text, hints[field.name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{variable} is not set; it is required")
    return cls(**values)


def parse_duration(text: str) -> datetime.timedelta:
    """`15d`, `12h`, `30m`, `10s`, `500ms` as a timedelta; raises ValueError for anything else."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError("expected a duration such as 15d, 12h, 30m, 10s or 500ms")
    try:
        return datetime.timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError as error:
        raise ValueError("expected a duration of less than 1000000000d") from error


def _variable(field: dataclasses.Field[Any], prefix: str) -> str:
    return str(field.metadata.get("variable", prefix + field.name.upper()))


def _refuse_unknown(prefix: str, environment: Mapping[str, str], known: set[str]) -> None:
    for name in sorted(environment):
        if name.startswith(prefix) and name not in known and name.removesuffix("_FILE") not in known:
            # The prefix all names share would make every one of them look close.
            close = difflib.get_close_matches(name.removeprefix(prefix), [each.removeprefix(prefix) for each in known], n=1)
            suggestion = f"; did you mean {prefix}{close[0]}?" if close else f"; known: {', '.join(sorted(known))}"
            raise ConfigError(f"{name} is not a setting{suggestion}")


def _read(variable: str, hint: Any, environment: Mapping[str, str]) -> str | None:
    file = environment.get(variable + "_FILE")
    if file is not None and Secret in _alternatives(hint):
        try:
            return pathlib.Path(file).read_text().strip()
        except OSError as error:
            raise ConfigError(f"{variable}_FILE: cannot read {file}: {error.strerror}") from error
    return environment.get(variable)


def _parse(variable: str, text: str, hint: Any) -> Any:
    kind = next(kind for kind in _alternatives(hint) if kind is not type(None))
    try:
        return _convert(text, kind)
    except ValueError as error:
        raise ConfigError(f"{variable}={text!r}: {error}") from error


def _convert(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError("expected true or false")
        return _BOOLEANS[text.lower()]
    if kind is datetime.timedelta:
        return parse_duration(text)
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return kind(text)


def _alternatives(hint: Any) -> Iterator[Any]:
    yield from typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
