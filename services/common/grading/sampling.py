"""How answers of a whole dataset are chosen, see sampling.proto."""

import dataclasses
from collections.abc import Iterator

from services.common.errors import Violation

_MAX_TOKENS, _MAX_SEED, _MAX_STOPS = 32_768, 2**31 - 1, 4


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """The numbers, defaults filled in."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 42
    stop: tuple[str, ...] = ()
    regex: str = ""
    """The answer matches it from its first to its last character; empty = free text. Only graders ask for it."""

    def violations(self, field: str) -> Iterator[Violation]:
        """What is out of range; `field` is the path of the message."""
        if not 1 <= self.max_tokens <= _MAX_TOKENS:
            yield Violation(f"{field}.max_tokens", f"{self.max_tokens} is not between 1 and {_MAX_TOKENS:,}")
        # A comparison with NaN is false, so NaN is in no range.
        if not 0 <= self.temperature <= 2:
            yield Violation(f"{field}.temperature", f"{self.temperature:g} is not between 0 and 2")
        if not 0 < self.top_p <= 1:
            yield Violation(f"{field}.top_p", f"{self.top_p:g} is not more than 0 and at most 1")
        if not 0 <= self.seed <= _MAX_SEED:
            yield Violation(f"{field}.seed", f"{self.seed} is not between 0 and 2^31-1")
        if len(self.stop) > _MAX_STOPS or not all(self.stop):
            yield Violation(f"{field}.stop", f"at most {_MAX_STOPS} texts, none of them empty")
