"""Counts what is in the usable rows; used by `checker`, read by `statistics` and `warnings`."""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence

from services.storage.checking.example import ASSISTANT, SILENT, SYSTEM_ROLES, Batch, Format, Shape, counted
from services.storage.checking.fingerprints import Fingerprints, Repeats
from services.storage.checking.labels import Labels

SHOWN_LINES = SHOWN_NAMES = 5
MAX_TURNS = 10
"""Rows with more turns count as having 10."""


class Notable:
    """Rows that deserve a second look: how many, and the first lines."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[int] = []

    def add(self, count: int, lines: Iterator[int]) -> None:
        """Counts rows; of their lines no more are looked at than are shown."""
        self.count += count
        while len(self.lines) < SHOWN_LINES and (line := next(lines, 0)):
            self.lines.append(line)


class Tally:
    """Takes batches in the order of the file."""

    def __init__(self, fingerprints: Fingerprints | None = None) -> None:
        self.row_count = self.learned_characters = self.with_tools = 0
        self.roles: collections.Counter[str] = collections.Counter()
        self.turns: collections.Counter[int] = collections.Counter()
        self.without_system, self.last_not_assistant = Notable(), Notable()
        self.empty_content, self.ignored_keys = Notable(), Notable()
        self.ignored_names: list[str] = []
        self.labels = Labels()
        self._fingerprints = fingerprints or Fingerprints()

    def add(self, batch: Batch, lines: Sequence[int]) -> None:
        """Counts a batch; `lines` are where its rows begin."""
        self.row_count += len(batch.texts)
        self.learned_characters += batch.learned_characters
        self.with_tools += batch.with_tools
        self.labels.add(batch.format, batch.endings)
        self._add_shapes(batch, counted(batch.shapes), lines)
        if batch.empty_contents:
            concerned = (line for line, count in zip(lines, batch.empty_contents, strict=True) if count)
            self.empty_content.add(sum(batch.empty_contents), concerned)
        if batch.ignored_keys:
            self._add_ignored(batch.ignored_keys, lines)
        self._fingerprints.add(batch, lines)

    def repeats(self) -> Repeats:
        """Rows that repeat; call it once, at the end."""
        return self._fingerprints.repeats()

    def _add_ignored(self, keys: Sequence[tuple[str, ...]], lines: Sequence[int]) -> None:
        self.ignored_keys.add(len(keys) - keys.count(()), (line for line, ignored in zip(lines, keys, strict=True) if ignored))
        # In order, and each once.
        for ignored in dict.fromkeys(keys):
            more = [key for key in ignored if key not in self.ignored_names]
            self.ignored_names += more[: SHOWN_NAMES - len(self.ignored_names)]

    def _add_shapes(self, batch: Batch, shapes: Mapping[Shape, int], lines: Sequence[int]) -> None:
        for shape, count in shapes.items():
            self._add_roles(shape, count, batch.format)

        def note(notable: Notable, chosen: Callable[[Shape], bool]) -> None:
            concerned = {shape for shape in shapes if shape and chosen(shape)}
            of_concern = (line for line, shape in zip(lines, batch.shapes, strict=True) if shape in concerned)
            notable.add(sum(shapes[shape] for shape in concerned), of_concern if concerned else iter(()))

        note(self.without_system, lambda shape: not any(role in shape for role in SYSTEM_ROLES))
        if batch.format is Format.CHAT:
            note(self.last_not_assistant, lambda shape: shape[-1] not in (ASSISTANT, SILENT))
        if self.last_not_assistant.count:
            self.labels.no_answer()

    def _add_roles(self, shape: Shape, count: int, found: Format) -> None:
        roles = collections.Counter(ASSISTANT if kind == SILENT else kind for kind in shape)
        for role, times in roles.items():
            self.roles[role] += times * count
        if shape:
            # The two outputs of a preference row are one turn, said in two ways.
            self.turns[min(roles[ASSISTANT] - (found is Format.PREFERENCE), MAX_TURNS)] += count
