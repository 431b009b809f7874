"""Log lines are JSON objects, and keep secrets."""

import json
import logging

import pytest
import structlog

from services.common import logs


@pytest.fixture
def configured(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest):
    """Called without arguments it configures the process; called again it gives the lines written since."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def restore() -> None:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()

    def lines() -> list[dict]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    request.addfinalizer(restore)
    return lines


def test_our_lines_have_event_service_level_time_and_context(configured) -> None:
    logs.configure("example", "debug")
    with structlog.contextvars.bound_contextvars(task_id="t1"):
        structlog.get_logger().info("task.created", steps=3)
    (line,) = configured()
    assert {"event": "task.created", "service": "example", "level": "info", "steps": 3, "task_id": "t1"}.items() <= line.items()
    assert line["timestamp"].endswith("Z")


def test_lines_of_libraries_have_the_same_shape(configured) -> None:
    logs.configure("example", "debug")
    logging.getLogger("some.library").warning("odd %s", "thing")
    (line,) = configured()
    assert {"event": "odd thing", "service": "example", "level": "warning"}.items() <= line.items()


def test_an_exception_is_one_line(configured) -> None:
    logs.configure("example", "debug")
    try:
        raise ValueError("boo")
    except ValueError:
        structlog.get_logger().exception("thing.failed")
    (line,) = configured()
    assert "ValueError: boo" in line["exception"]


def test_a_line_break_in_a_value_cannot_forge_a_line(configured) -> None:
    logs.configure("example", "debug")
    structlog.get_logger().info("thing.named", name='x\n{"event": "forged"}')
    assert len(configured()) == 1


@pytest.mark.parametrize("key", ["password", "s3_secret_key", "api_key", "Authorization", "page_token", "dsn", "postgres_dsn"])
def test_values_of_secret_keys_are_hidden(key: str) -> None:
    assert logs.redact(None, "", {key: "hunter2"}) == {key: "***"}


@pytest.mark.parametrize("key", ["tokens", "token_count", "prompt_tokens", "key", "name"])
def test_other_values_are_kept(key: str) -> None:
    assert logs.redact(None, "", {key: 3}) == {key: 3}
