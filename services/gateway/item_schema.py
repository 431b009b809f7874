"""The JSON schema of the items of an eval: checked when it is kept, and every item against it in a bounded time.

A schema is the caller's, so nothing is fetched for it, its patterns are RE2's, which never try anything twice, and what it takes
to check an item is counted.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jsonschema
import re2
import referencing
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from services.gateway.bodies import Body
from services.gateway.failures import refused

_PLACE = "data_source_config.item_schema"
_LONGEST = 16 * 1024
_LONGEST_TOLD = 200
_UNSUPPORTED = ("$id", "$schema", "$dynamicRef", "patternProperties", "unevaluatedItems", "unevaluatedProperties")
"""Keywords for which the library would use Python's patterns, or which could lead around what is counted."""
_MOST_STEPS = 150_000
"""About a second. Two references in each of 40 schemas would otherwise be followed a million million times."""
_CHARACTERS_A_STEP = 64

Schema = Mapping[str, Any] | bool
Keyword = Callable[..., Iterable[ValidationError] | None]


class _TooMuch(Exception):
    """An item takes more steps than there are."""


class ItemSchema:
    """Raises InvalidArgument naming the place in a schema that is none, or that nothing can be checked against."""

    def __init__(self, given: Body) -> None:
        # What its dialect and its address are makes no difference here.
        schema = {key: value for key, value in given.items() if key not in ("$schema", "$id")}
        if len(json.dumps(schema, ensure_ascii=False)) > _LONGEST:
            raise refused(_PLACE, f"has more than {_LONGEST:,} characters")
        try:
            jsonschema.Draft202012Validator.check_schema(schema, format_checker=None)
            _check(schema)
        except SchemaError as error:
            raise refused(_placed(_PLACE, error.absolute_path), _told(error)) from None
        except RecursionError:
            raise refused(_PLACE, "is too deep") from None
        self._steps = 0
        self._validator = self._class()(schema, registry=referencing.Registry())

    def check(self, item: Body) -> None:
        """Raises InvalidArgument naming the place in the item that does not fit."""
        self._steps = 0
        try:
            error = best_match(self._validator.iter_errors(item))
        except (_TooMuch, RecursionError):
            raise refused("item", "takes too long to be checked against the item_schema of the eval") from None
        except (ArithmeticError, ValueError) as problem:
            # Numbers of hundreds of digits, and what is none, divided by multipleOf.
            raise refused("item", f"cannot be checked against the item_schema of the eval: {problem}") from None
        if error is not None:
            place = _placed("item", error.absolute_path)
            if error.validator == "required":
                missing = next(key for key in error.validator_value if key not in error.instance)
                raise refused(f"{place}.{missing}", "is required by the item_schema of the eval")
            raise refused(place, f"{_told(error)}; so says the item_schema of the eval")

    def _class(self) -> Any:
        """The library's validator, with patterns of RE2, and counting."""
        plain = jsonschema.Draft202012Validator
        keywords = {**plain.VALIDATORS, "pattern": self._pattern, "uniqueItems": self._unique}
        counted = {name: self._counted(check) for name, check in keywords.items()}
        return jsonschema.validators.create(
            plain.META_SCHEMA, counted, type_checker=plain.TYPE_CHECKER, applicable_validators=self._keywords
        )

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise _TooMuch

    def _counted(self, check: Keyword) -> Keyword:
        """The same; what it says holds the whole value, and many may say it of one."""

        def counted(*given: Any) -> Iterator[ValidationError]:
            for error in check(*given) or ():
                self._spend(len(error.message) // _CHARACTERS_A_STEP)
                yield error

        return counted

    def _keywords(self, schema: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        """Asked for each value and each schema that it is compared with."""
        self._spend(1 + sum(len(value) for value in schema.values() if isinstance(value, list | dict)))
        return schema.items()

    def _pattern(self, _validator: Any, pattern: str, value: Any, _schema: Schema) -> Iterator[ValidationError]:
        if isinstance(value, str):
            self._spend(len(value) // _CHARACTERS_A_STEP)
            if not re2.search(pattern, value, _options()):
                yield ValidationError(f"{value!r} does not match {pattern!r}")

    def _unique(self, _validator: Any, wanted: bool, value: Any, _schema: Schema) -> Iterator[ValidationError]:
        if wanted and isinstance(value, list) and len({self._frozen(each) for each in value}) < len(value):
            yield ValidationError(f"{value!r} has equal elements")

    def _frozen(self, value: Any) -> Any:
        """Something that is equal exactly when the values are; true is not 1, but 1.0 is."""
        self._spend(1)
        if isinstance(value, list):
            return tuple(map(self._frozen, value))
        if isinstance(value, dict):
            return frozenset((key, self._frozen(each)) for key, each in value.items())
        return (bool, value) if isinstance(value, bool) else value


def _check(schema: Body) -> None:
    """Of a schema that is one: raises InvalidArgument for what cannot be checked in a bounded time."""
    found = {id(each): each for each in _schemas(schema)}
    resolver = referencing.Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for each in found.values():
        for keyword in _UNSUPPORTED:
            if keyword in each:
                raise refused(_PLACE, f"{keyword} is not supported", reason="UNSUPPORTED_PARAMETER")
        if "pattern" in each:
            _check_pattern(each["pattern"])
        if "$ref" in each:
            _check_reference(each["$ref"], resolver, found)


def _schemas(schema: Schema) -> Iterator[Body]:
    """The schema and every one inside of it."""
    waiting: list[Any] = [schema]
    while waiting:
        if isinstance(each := waiting.pop(), dict):
            yield each
            waiting += DRAFT202012.subresources_of(each)


def _check_reference(reference: str, resolver: Any, known: Mapping[int, Body]) -> None:
    try:
        target = resolver.lookup(reference).contents
    except Unresolvable:
        target = None
    if id(target) not in known and not isinstance(target, bool):
        raise refused(_PLACE, f"$ref {reference[:80]!r} leads to no schema; #/$defs/NAME leads to another part of this one")


def _check_pattern(pattern: str) -> None:
    try:
        re2.compile(pattern, _options())
    except re2.error as error:
        why = error.args[0] if error.args else "it cannot be used"
        why = why.decode(errors="replace") if isinstance(why, bytes) else why
        raise refused(_PLACE, f"the pattern {pattern[:80]!r} is no regular expression of RE2: {why}") from None


def _options() -> Any:
    options = re2.Options()
    options.max_mem = 1 << 20
    options.log_errors = False
    return options


def _placed(place: str, path: Iterable[str | int]) -> str:
    return place + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _told(error: Any) -> str:
    message: str = error.message
    return message if len(message) <= _LONGEST_TOLD else f"{message[:_LONGEST_TOLD]}…"
