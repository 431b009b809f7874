"""What two tasks do not have in common, field by field; used by DiffTasks."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping

Fields = Mapping[str, str]
"""Text by path."""


class Section(enum.Enum):
    """What fields belong to; the values are names of TaskDifference.Section, in the order in which they are told."""

    SPEC = "SPEC"
    HYPERPARAMETERS = "HYPERPARAMETERS"
    DATA = "DATA"
    VERSIONS = "VERSIONS"
    RESULT = "RESULT"


@dataclasses.dataclass(frozen=True, slots=True)
class Provenance:
    """What an artifact's manifest tells of how it was made."""

    data: Fields
    versions: Fields


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A field that differs; empty = not there."""

    section: Section
    field: str
    first: str
    second: str


def differences(section: Section, first: Fields, second: Fields) -> Iterator[Difference]:
    """Sorted by field."""
    for field in sorted(first.keys() | second.keys()):
        one, other = first.get(field, ""), second.get(field, "")
        if one != other:
            yield Difference(section, field, one, other)
