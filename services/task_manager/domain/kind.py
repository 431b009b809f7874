"""What a task does: the kinds of work there are; used wherever a task is told by what it is."""

import enum


class Kind(enum.Enum):
    """Values are the names of TaskSpec.Kind; in lower case those of the spec's fields."""

    FINE_TUNING = "FINE_TUNING"
    EVALUATION = "EVALUATION"
    GENERATION = "GENERATION"
    EXPORT = "EXPORT"

    @property
    def field(self) -> str:
        """Of TaskSpec."""
        return self.value.lower()

    @property
    def noun(self) -> str:
        """What a sentence calls the work."""
        return "training" if self is Kind.FINE_TUNING else self.field
