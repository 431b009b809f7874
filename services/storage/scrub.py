"""What a scrubber reads and finds, as values; used by the scrubber, its repository and the artifact servicer."""

import dataclasses
import datetime


@dataclasses.dataclass(frozen=True, slots=True)
class StoredContent:
    """The bytes of one content."""

    sha256: str
    size_bytes: int
    object_key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """Stored bytes that are not what they should be, and everything that has them."""

    sha256: str
    size_bytes: int
    damage: str
    check_time: datetime.datetime
    owners: tuple[str, ...]
    """Resource names, sorted."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScrubStatus:
    """How far the scrubber is."""

    content_count: int
    size_bytes: int
    oldest_check_time: datetime.datetime | None
    """None = nothing is stored."""
    overdue_bytes: int
    """What should have been read again by now."""
    damages: tuple[Damage, ...]
    """At most MAX_DAMAGES of them, by SHA-256."""


MAX_DAMAGES = 1000
