"""How many bad rows may be left out; said by the caller, asked by `checker`."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """With neither limit one bad row is too many; with both, both must hold."""

    max_rows: int | None = None
    max_ratio: float | None = None
    """Share of all rows that are not blank."""

    def covers(self, bad: int, rows: int) -> bool:
        """Whether `bad` of `rows` rows may be left out."""
        return not bad or (self.may_cover(bad) and (self.max_ratio is None or bad <= self.max_ratio * rows))

    def __str__(self) -> str:
        """As the caller said it; empty when nothing was."""
        said = {"max_invalid_rows": self.max_rows, "max_invalid_ratio": self.max_ratio}
        return " and ".join(f"{name} {limit:g}" for name, limit in said.items() if limit is not None)

    def may_cover(self, bad: int) -> bool:
        """Whether so many bad rows may be left out when enough good ones follow."""
        if self.max_rows is None and self.max_ratio is None:
            return not bad
        return self.max_rows is None or bad <= self.max_rows
