"""Files are checked the same however they are cut, in bounded memory, and the report is complete."""

import json
import tracemalloc

import pytest
from unit.storage.service import lines, row

from services.storage.dataset_validation import MAX_VIOLATIONS, DatasetReport, DatasetValidator, refusal


def checked(content: bytes, *, cut: int = 0, **options: int) -> DatasetReport:
    validator = DatasetValidator(**options)
    size = cut or max(len(content), 1)
    for start in range(0, len(content), size):
        validator.feed(content[start : start + size])
    return validator.finish()


def places(report: DatasetReport) -> list[tuple[int, str, str]]:
    return [(violation.line, violation.path, violation.reason) for violation in report.violations]


MIXED = (
    b"\xef\xbb\xbf" + lines(row("ä€😀")) + b"\r\n" + lines({"messages": []})
    + json.dumps(row("b")).encode() + b"\r\n   \n"
    + b'{"messages": [{"role": "bot", "content": "x"}]}\n\xff\n' + lines(row("b")).rstrip()
)  # fmt: skip


def test_every_problem_has_its_line_blank_lines_included() -> None:
    report = checked(MIXED)
    assert places(report) == [
        (3, "messages", "DATASET_MESSAGES_MISSING"),
        (6, "messages[0].role", "DATASET_ROLE_UNKNOWN"),
        (7, "", "DATASET_NOT_UTF8"),
    ]
    assert report.statistics.example_count == 6


@pytest.mark.parametrize("cut", range(1, len(MIXED) + 1))
def test_where_the_chunks_are_cut_makes_no_difference(cut: int) -> None:
    assert checked(MIXED, cut=cut) == checked(MIXED)


def test_each_single_cut_makes_no_difference() -> None:
    whole = checked(MIXED)
    for position in range(len(MIXED)):
        validator = DatasetValidator()
        for chunk in (MIXED[:position], b"", MIXED[position:]):
            validator.feed(chunk)
        assert validator.finish() == whole


@pytest.mark.parametrize("content", [b"[]", b" [\n1]\n", b"\n\n[{", b"\xef\xbb\xbf[", b'[{"messages": []},\n' * 50, b"\r\n\t["])
def test_an_array_is_one_problem_of_the_file(content: bytes) -> None:
    assert places(checked(content, cut=1)) == [(0, "", "DATASET_JSON_ARRAY")]


def test_an_array_on_one_endless_line_is_recognised() -> None:
    content = b"[" + b'{"messages": []},' * 100
    assert places(checked(content, cut=10, max_line_bytes=100)) == [(0, "", "DATASET_JSON_ARRAY")]


def test_an_array_after_the_first_row_is_a_bad_row() -> None:
    assert places(checked(lines(row(), [1], row()))) == [(2, "", "DATASET_NOT_OBJECT")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_utf_16_file_is_one_problem_of_the_file(encoding: str) -> None:
    content = ("\ufeff" + lines(row(), row()).decode()).encode(encoding)
    for cut in (0, 1):
        assert places(checked(content, cut=cut)) == [(0, "", "DATASET_NOT_UTF8")]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf\r\n", b" \t\r\n" * 9, b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_empty(content: bytes) -> None:
    for cut in (0, 1):
        report = checked(content, cut=cut)
        assert places(report) == [(0, "", "DATASET_EMPTY")]
        assert not report.valid


def test_a_long_line_is_one_problem_and_the_next_is_read() -> None:
    long = json.dumps(row("x" * 500)).encode()
    for cut in (1, 7, 10_000):
        report = checked(lines(row()) + long + b"\n" + lines(row()), cut=cut, max_line_bytes=400)
        assert places(report) == [(2, "", "DATASET_LINE_TOO_LONG")]
        assert report.statistics.example_count == 3


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_line_of_just_the_limit_is_taken(end: bytes, mark: bytes) -> None:
    line = json.dumps(row("x" * 100)).encode()
    for cut in (0, 1):
        assert checked(mark + line + end, cut=cut, max_line_bytes=len(line)).valid
        assert not checked(mark + line + end, cut=cut, max_line_bytes=len(line) - 1).valid


def test_memory_stays_bounded_whatever_the_line() -> None:
    validator = DatasetValidator(max_line_bytes=2**20)
    chunk = b"x" * 2**18
    tracemalloc.start()
    for _ in range(200):
        validator.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20
    assert places(validator.finish()) == [(1, "", "DATASET_LINE_TOO_LONG")]


def test_the_first_hundred_are_listed_and_all_are_counted() -> None:
    report = checked(lines(*[{}] * 250, *[1] * 50, row()))
    assert len(report.violations) == MAX_VIOLATIONS
    assert report.violations[-1].line == 100
    assert report.violations_by_reason == {"DATASET_MESSAGES_MISSING": 250, "DATASET_NOT_OBJECT": 50}
    assert (report.violation_count, report.statistics.example_count) == (300, 301)


def test_statistics_count_good_rows() -> None:
    talk = {"messages": [{"role": r, "content": c} for r, c in (("system", "s"), ("user", "u"), ("assistant", "ä€"))]}
    statistics = checked(lines(talk, talk, row("12345"), {})).statistics
    assert statistics.example_count == 4
    assert (statistics.message_count, dict(statistics.messages_by_role)) == (8, {"system": 2, "user": 3, "assistant": 3})
    assert (statistics.assistant_character_count, statistics.without_system_count, statistics.duplicate_count) == (9, 1, 1)


def test_line_ends_do_not_hide_duplicates() -> None:
    line = json.dumps(row()).encode()
    assert checked(line + b"\r\n" + line + b"\n" + line).statistics.duplicate_count == 2


def test_the_refusal_sums_up_and_names_the_first() -> None:
    error = refusal(checked(lines(row(), {"messages": []}, row(), 5)))
    assert error.reason == "DATASET_INVALID"
    assert error.message == "2 of 4 rows are bad; first: line 2: messages: the list is empty"
    assert [violation.field for violation in error.violations] == ["line 2: messages", "line 4"]
    assert error.metadata == {"row_count": "4", "violation_count": "2"}


def test_one_bad_row_is_told_in_the_singular_with_its_own_hint() -> None:
    error = refusal(checked(lines(row(), {"messages": [{"role": "user", "content": "x"}]})))
    assert error.message.startswith("1 of 2 rows is bad; first: line 2: messages: no message is of the assistant")
    assert error.hint == "End the row with what the assistant should say."


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "DATASET_EMPTY"), (b"[]", "DATASET_JSON_ARRAY"), (b"\xff\xfe{", "DATASET_NOT_UTF8")]
)
def test_a_file_wrong_as_a_whole_is_refused_for_that(content: bytes, reason: str) -> None:
    error = refusal(checked(content))
    assert (error.reason, [violation.field for violation in error.violations]) == (reason, ["file"])
