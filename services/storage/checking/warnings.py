"""What deserves a second look in a dataset that may still train; used by `checker`."""

from collections.abc import Iterator, Sequence
from typing import Any

from services.common.catalogue import CATALOGUE
from services.storage.checking.fingerprints import Repeats
from services.storage.checking.quoting import quoted
from services.storage.checking.tally import Tally

FEW_EXAMPLES = 10
_IMBALANCE = 10
"""The most frequent label has this many times the rows of the rarest."""


def warnings(tally: Tally, repeats: Repeats) -> list[dict[str, Any]]:
    """DatasetWarning messages as JSON, the weightiest first."""
    return list(_warnings(tally, repeats)) if tally.row_count else []


def _warnings(tally: Tally, repeats: Repeats) -> Iterator[dict[str, Any]]:
    rows = tally.row_count
    if rows < FEW_EXAMPLES:
        yield _warning("DATASET_FEW_EXAMPLES", f"there {_are(rows, 'row')}; fine-tuning begins to help at {FEW_EXAMPLES}", rows)
    if repeats.exact:
        message = f"{_rows(repeats.exact, rows)} an earlier row"
        yield _warning("DATASET_DUPLICATES", message.format("repeats", "repeat"), repeats.exact, repeats.exact_lines)
    if repeats.near:
        message = f"{_rows(repeats.near, rows)} an earlier row but for case, digits, punctuation and white space"
        yield _warning("DATASET_NEAR_DUPLICATES", message.format("equals", "equal"), repeats.near, repeats.near_lines)
    if repeats.compared < rows:
        message = f"repeated rows were looked for among the first {repeats.compared} of {rows} rows only"
        yield _warning("DATASET_DUPLICATES_UNKNOWN", message, rows - repeats.compared)
    yield from _warnings_of_messages(tally)
    yield from _warnings_of_labels(tally)


def _warnings_of_messages(tally: Tally) -> Iterator[dict[str, Any]]:
    rows = tally.row_count
    if found := tally.last_not_assistant.count:
        message = f"{_rows(found, rows)} with a message that is not the assistant's; what follows the last answer trains nothing"
        yield _warning("DATASET_LAST_NOT_ASSISTANT", message.format("ends", "end"), found, tally.last_not_assistant.lines)
    if found := tally.empty_content.count:
        message = f"{found} {'message says' if found == 1 else 'messages say'} nothing"
        yield _warning("DATASET_EMPTY_CONTENT", message, found, tally.empty_content.lines)
    if found := tally.without_system.count:
        message = f"{_rows(found, rows)} no system message"
        yield _warning("DATASET_WITHOUT_SYSTEM", message.format("has", "have"), found, tally.without_system.lines)
    if found := tally.ignored_keys.count:
        names = ", ".join(quoted(name) for name in tally.ignored_names)
        message = f"{_rows(found, rows)} keys that train nothing, such as {names}"
        yield _warning("DATASET_KEYS_IGNORED", message.format("has", "have"), found, tally.ignored_keys.lines)


def _warnings_of_labels(tally: Tally) -> Iterator[dict[str, Any]]:
    counts = tally.labels.counts
    if len(counts) < 2:
        return
    (most, often), (least, rarely) = counts.most_common(1)[0], min(counts.items(), key=lambda item: (item[1], item[0]))
    if often >= _IMBALANCE * rarely:
        message = f"label {quoted(most)} has {often} rows, label {quoted(least)} has {rarely}"
        yield _warning("DATASET_LABELS_IMBALANCED", message, often)


def _warning(reason: str, message: str, count: int, lines: Sequence[int] = ()) -> dict[str, Any]:
    return {"reason": reason, "message": message, "hint": CATALOGUE[reason].hint, "count": count, "lines": list(lines)}


def _rows(count: int, rows: int) -> str:
    return f"{count} of {rows} rows {{{0 if count == 1 else 1}}}"


def _are(count: int, noun: str) -> str:
    return f"is 1 {noun}" if count == 1 else f"are {count} {noun}s"
