"""The logs of all parts on one terminal: what a row looks like, and that every new line becomes one."""

import asyncio
import io
import json

import pytest
from rich.console import Console

from tunesmith.local import log_view
from tunesmith.local.log_view import LARGEST_KEPT_BYTES, follow, printer, render, rotate

DEADLINE_SECONDS = 30.0


def row(**entry) -> str:
    return render("storage", json.dumps(entry)).plain.partition("│ ")[2]


@pytest.mark.parametrize("name", ["storage", "task_manager", "trainer", "inference", "postgres", "object_store", "new_part"])
def test_every_part_stands_in_a_column_of_its_own(name):
    line = "FATAL: F0 x" if name in ("postgres", "object_store") else "x"
    assert render(name, line).plain == f"{name:>12} │ {line}"


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical", "WARNING", "notice"])
def test_levels_are_shown_in_lower_case_and_aligned(level):
    assert row(level=level, event="a.b") == f"{level.lower():<7} a.b"


@pytest.mark.parametrize("level", ["debug", "DEBUG"])
def test_debugging_stays_in_the_file(level):
    assert render("storage", json.dumps({"level": level, "event": "a.b"})) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ("two words", "two words"),
        ([1, "a"], '[1, "a"]'),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_values_are_shown_as_json_but_words_as_they_are(value, text):
    assert row(event="a.b", key=value) == f"info    a.b key={text}"


@pytest.mark.parametrize("key", ["timestamp", "level", "event", "logger", "service", "request_id", "method"])
def test_what_every_entry_has_is_not_repeated(key):
    assert f"{key}=" not in row(event="a.b", **{key: "x"} if key != "event" else {})


@pytest.mark.parametrize("timestamp", ["", "yesterday", "1700000000.5", None])
def test_an_entry_without_a_readable_time_is_shown_without_one(timestamp):
    assert row(timestamp=timestamp, event="a.b") == "info    a.b"


def test_times_are_local_and_to_the_second():
    from datetime import datetime

    moment = datetime(2026, 1, 2, 3, 4, 5).astimezone()
    assert row(timestamp=moment.isoformat(), event="a.b") == "03:04:05 info    a.b"


@pytest.mark.parametrize("method", ["/tunesmith.v1.ModelService/GetBaseModel", "GetBaseModel"])
def test_a_method_is_shown_by_its_own_name(method):
    assert row(event="rpc.refused", method=method) == "info    rpc.refused GetBaseModel"


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_blank_lines_are_not_rows(line):
    assert render("trainer", line) is None


@pytest.mark.parametrize("line", ["null", "7", '"words"', "[1, 2]", "{'python': 'repr'}", "Traceback (most recent call last):"])
def test_a_line_that_is_no_entry_is_shown_word_for_word(line):
    assert render("trainer", line).plain == f"     trainer │ {line}"


@pytest.mark.parametrize("word", ["WARNING", "ERROR", "FATAL", "PANIC"])
def test_bad_news_of_postgres_are_rows_unless_they_answer_our_own_asking(word):
    assert render("postgres", f"2026-01-02 [7] {word}:  disk is full") is not None
    assert render("postgres", f"2026-01-02 [7] {word}:  the database system is shutting down") is None


def test_a_row_is_printed_on_one_line_without_markup_or_replacements():
    output = io.StringIO()
    printer(Console(file=output, width=20))(render("trainer", "loader.py:100: [bold]words[/bold] " + "x" * 80))
    assert output.getvalue() == "     trainer │ loader.py:100: [bold]words[/bold] " + "x" * 80 + "\n"


class TestFollowing:
    @pytest.fixture(autouse=True)
    def often(self, monkeypatch):
        monkeypatch.setattr(log_view, "POLL_INTERVAL_SECONDS", 0.001)

    @pytest.fixture
    async def shown(self, tmp_path):
        """Rows of a log that is followed; `shown.write` adds to it, `shown.until` waits for so many rows."""
        path = tmp_path / "trainer.log"
        path.write_bytes(b"of before\n")
        rows: list[str] = []
        task = asyncio.create_task(follow("trainer", path, lambda text: rows.append(text.plain.partition("│ ")[2])))
        await asyncio.sleep(0)  # it stands at the end of the file now

        class Shown:
            def write(self, data: bytes) -> None:
                with path.open("ab") as log:
                    log.write(data)

            async def until(self, count: int) -> list[str]:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while len(rows) < count:  # noqa: ASYNC110 - a file tells nobody that it grew
                        await asyncio.sleep(0.001)
                return rows

        yield Shown()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_only_what_is_written_from_now_on_is_shown(self, shown):
        shown.write(b"one\ntwo\n")
        assert await shown.until(2) == ["one", "two"]

    async def test_half_a_line_waits_for_its_other_half(self, shown):
        shown.write(b"first\nhal")
        assert await shown.until(1) == ["first"]
        shown.write(b"f\n")
        assert await shown.until(2) == ["first", "half"]

    async def test_a_letter_cut_in_two_is_put_together_again(self, shown):
        first, second = "größe\n".encode()[:3], "größe\n".encode()[3:]
        shown.write(b"mark\n" + first)
        await shown.until(1)
        shown.write(second)
        assert await shown.until(2) == ["mark", "größe"]

    async def test_bytes_that_are_no_text_do_not_end_the_following(self, shown):
        shown.write(b"\xff\xfe\nnext\n")
        assert (await shown.until(2))[1] == "next"

    async def test_what_is_not_worth_showing_is_passed_over(self, shown):
        shown.write(b'\n{"level": "debug", "event": "a.b"}\nlast\n')
        assert await shown.until(1) == ["last"]


class TestRotation:
    def log(self, directory, name, size):
        with (directory / name).open("wb") as file:
            file.truncate(size)

    @pytest.mark.parametrize(("size", "aside"), [(LARGEST_KEPT_BYTES, False), (LARGEST_KEPT_BYTES + 1, True), (0, False)])
    def test_only_a_log_beyond_the_limit_is_set_aside(self, tmp_path, size, aside):
        self.log(tmp_path, "storage.log", size)
        rotate(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["storage.log.1" if aside else "storage.log"]

    def test_one_generation_is_kept(self, tmp_path):
        (tmp_path / "storage.log.1").write_text("older")
        self.log(tmp_path, "storage.log", LARGEST_KEPT_BYTES + 1)
        rotate(tmp_path)
        assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("storage.log.1", LARGEST_KEPT_BYTES + 1)]

    def test_other_files_are_left_alone(self, tmp_path):
        self.log(tmp_path, "model.bin", LARGEST_KEPT_BYTES + 1)
        rotate(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]
