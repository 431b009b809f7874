"""What is announced about artifacts, as values; used by the sweeper, the scrubber and the artifact servicer."""

import dataclasses
import datetime
import uuid

EXPIRING, DAMAGED = "EXPIRING", "DAMAGED"


@dataclasses.dataclass(frozen=True, slots=True)
class Notice:
    """One announcement. It never changes and comes once."""

    sequence: int
    """Dense, from 1, in the order in which announcements become visible."""
    kind: str
    artifact: uuid.UUID
    task: uuid.UUID
    days: int
    """Of one that expires: at most so many days were left; else 0."""
    expire_time: datetime.datetime
    path: str
    """Of a damaged one: the file."""
    damage: str
    """Of a damaged one: what is wrong with the file."""
    create_time: datetime.datetime = dataclasses.field(compare=False)
    """When it was made; a dry run makes the same at another moment."""
