"""How often each label occurs; used by `tally`.

The labels of labeled rows are counted as they are. The last answers of chat rows are taken for labels when every row ends with
an answer of at most 200 characters, there are at least 20 rows and at most 200 different answers, and each occurs 5 times on
average.
"""

import collections
from collections.abc import Sequence

from services.storage.checking.example import Format
from services.storage.checking.row import MAX_LABEL_LENGTH

_SHOWN = 100
_MAX_LABELS = 100_000
_MAX_ANSWERS = 200
_MIN_ROWS = 20
_MIN_REPEATS = 5


class Labels:
    """Takes what rows end with, in any order."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self._active = True
        self._answers = False

    def add(self, found: Format, endings: Sequence[str]) -> None:
        """Counts the labels of a batch. At most 100,000 different ones are told apart."""
        if found is Format.CHAT:
            self._answers = True
            if self._active:
                self._add_answers(endings)
        elif found is Format.LABELED:
            known = self._counts
            known.update(endings if len(known) < _MAX_LABELS else [label for label in endings if label in known])

    def no_answer(self) -> None:
        """A chat row does not end with an answer, so answers are no labels."""
        self._give_up()

    def _add_answers(self, answers: Sequence[str]) -> None:
        if not all(answers) or max(map(len, answers)) > MAX_LABEL_LENGTH:
            self._give_up()
            return
        self._counts.update(answers)
        if len(self._counts) > _MAX_ANSWERS:
            self._give_up()

    def _give_up(self) -> None:
        if self._answers:
            self._active = False
            self._counts.clear()

    @property
    def counts(self) -> collections.Counter[str]:
        """Rows by label; empty when there are none."""
        rows = self._counts.total()
        if self._answers and (rows < _MIN_ROWS or rows < _MIN_REPEATS * len(self._counts)):
            return collections.Counter()
        return self._counts

    def most_common(self) -> list[tuple[str, int]]:
        """The 100 most frequent with their rows; equally frequent ones by their text."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [(label.replace("\0", "\ufffd"), count) for label, count in ordered[:_SHOWN]]
