"""What of the logs is shown, and how."""

import json

import pytest

from tunesmith.local.log_view import LARGEST_KEPT_BYTES, render, rotate


def entry(**values) -> str:
    return json.dumps({"timestamp": "2026-01-02T03:04:05Z", "level": "info", "event": "dataset.uploaded", **values})


def test_an_entry_has_its_service_level_event_and_values():
    text = render("storage", entry(name="datasets/1", rows=3)).plain
    assert text.startswith("     storage │ ")
    assert "info    dataset.uploaded name=datasets/1 rows=3" in text
    assert "timestamp" not in text


def test_a_call_is_shown_by_its_method_and_without_its_request_id():
    text = render(
        "storage", entry(event="rpc.refused", method="/tunesmith.v1.ModelService/GetBaseModel", request_id="1-2-3")
    ).plain
    assert text.endswith("rpc.refused GetBaseModel")


def test_debug_is_only_in_the_file():
    assert render("storage", entry(level="debug")) is None


@pytest.mark.parametrize("line", ["plain words", '["a list"]', "{broken"])
def test_a_line_that_is_no_entry_is_shown_as_it_is(line):
    assert render("trainer", line).plain.endswith(line)


def test_an_empty_line_is_not_shown():
    assert render("trainer", "  ") is None


@pytest.mark.parametrize(
    ("name", "line", "shown"),
    [
        ("postgres", "LOG:  checkpoint starting", False),
        ("postgres", "FATAL:  data directory has wrong ownership", True),
        ("postgres", "FATAL:  the database system is starting up", False),
        ("object_store", "I0101 volume is ready", False),
        ("object_store", "F0101 12:00:00 cannot bind", True),
    ],
)
def test_embedded_servers_are_quiet_unless_it_is_bad(name, line, shown):
    assert (render(name, line) is not None) == shown


def test_markup_in_a_line_is_not_interpreted():
    assert "[bold]" in render("trainer", "[bold]x[/bold]").plain


def test_large_logs_are_set_aside(tmp_path):
    large, small = tmp_path / "large.log", tmp_path / "small.log"
    with large.open("wb") as file:
        file.truncate(LARGEST_KEPT_BYTES + 1)
    small.write_text("x")
    rotate(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.log.1", "small.log"]
