"""Which datasets a list holds; used by the servicer, in page tokens, and by the repositories."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetFilter:
    """Empty fields let everything pass."""

    display_name_contains: str = ""
    """In any case."""
    display_name: str = ""
    formats: tuple[str, ...] = ()
    """Names of Dataset.Format."""

    @property
    def text(self) -> str:
        """The filter as a text to which page tokens are bound."""
        fields = (self.display_name_contains, self.display_name, sorted(set(self.formats)))
        return "datasets" + (json.dumps(fields) if self != EVERYTHING else "")


EVERYTHING = DatasetFilter()
