"""Which tasks to list, to count or to watch; used by the servicer's pages and streams and by the repository."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence

from services.task_manager.domain.task import State


@dataclasses.dataclass(frozen=True, slots=True)
class TaskFilter:
    """Every condition that is set must hold; empty or None = not set."""

    states: Sequence[State] = ()
    display_name_contains: str = ""
    text: str = ""
    """In the display name or the description, in any case."""
    dataset: uuid.UUID | None = None
    """Trained or validated on it."""
    origin_artifacts: Sequence[str] = ()
    """Starts from one of them; full resource names."""
    base_model: str = ""
    """Full resource name."""
    methods: Sequence[str] = ()
    """Names of values of FineTuning.Method."""
    tunings: Sequence[str] = ()
    """Names of values of FineTuning.Tuning."""
    kinds: Sequence[str] = ()
    """Values of Kind."""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Each of them with this value."""
    ids: tuple[uuid.UUID, uuid.UUID] | None = None
    """The first and the last id that are meant."""
    creator: str = ""
    """Exactly."""
    from_create_time: datetime.datetime | None = None
    before_create_time: datetime.datetime | None = None
