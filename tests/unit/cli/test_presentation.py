"""Text for people: times, sizes, curves, the live line."""

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from fake_platform import a_run
from google.protobuf.timestamp_pb2 import Timestamp

from tunesmith.cli.artifact_life import kept, life
from tunesmith.cli.errors import exit_code
from tunesmith.cli.output import duration, size, time_left, when
from tunesmith.cli.task_logs import curve
from tunesmith.cli.task_view import TaskView
from tunesmith.errors import InvalidArgument, NotFound, PermissionDenied, Unreachable
from tunesmith.local.errors import LocalError

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e12, "3.0 TB")])
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (21.4, "0:21"), (725, "12:05"), (11220, "3:07:00"), (-3, "0:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(days=15), "15 d"),
        (timedelta(days=14, hours=23, minutes=59), "15 d"),
        (timedelta(hours=7, minutes=30), "7 h"),
        (timedelta(minutes=12), "12 min"),
        (timedelta(seconds=5), "1 min"),
        (timedelta(seconds=-5), "over"),
    ],
)
def test_time_left(left, text):
    moment = Timestamp()
    moment.FromDatetime(NOW + left)
    assert time_left(moment, NOW) == text


def test_a_time_that_is_not_set_is_empty():
    assert when(Timestamp()) == ""


def test_a_time_of_another_day_has_its_day():
    assert when(Timestamp(seconds=1_000_000_000)).startswith("2001-09-")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x", grpc_code="NOT_FOUND"), 1),
        (InvalidArgument("x", grpc_code="INVALID_ARGUMENT"), 1),
        (InvalidArgument("x"), 2),
        (PermissionDenied("x", grpc_code="UNAUTHENTICATED"), 4),
        (Unreachable("x", grpc_code="UNAVAILABLE"), 5),
        (LocalError("NOT_RUNNING", "x", "y"), 5),
        (LocalError("PORT_INVALID", "x", "y"), 2),
        (LocalError("PORT_TAKEN", "x", "y"), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


def test_a_curve_rises_from_low_to_high():
    assert curve([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"


def test_a_curve_is_thinned_and_leaves_gaps_for_what_is_not_finite():
    assert len(curve(range(1000))) == 32
    assert curve([0.0, math.nan, 1.0]) == "▁ █"
    assert curve([math.nan]) == ""
    assert curve([2.0, 2.0]) == "▁▁"


class TestLiveLine:
    def view(self, events) -> TaskView:
        view = TaskView()
        for event in events:
            view.apply(event)
        return view

    def test_before_training_it_is_the_state(self):
        assert self.view(a_run()[:1]).line().plain.strip() == "QUEUED"

    def test_in_training_it_has_step_share_loss_pace_and_time_to_go(self):
        line = self.view(a_run(steps=4)[:7]).line().plain
        assert line.startswith("RUNNING    step 2/4  ")
        assert "  50%  loss 1.500  100 tok/s  ETA 0:02" in line

    def test_there_is_no_eta_from_one_point(self):
        assert self.view(a_run(steps=4)[:6]).remaining_seconds() is None

    def test_at_the_end_it_is_full_and_has_no_eta(self):
        line = self.view(a_run(steps=4)).line().plain
        assert "100%" in line
        assert "ETA" not in line

    @pytest.mark.parametrize("width", [70, 80, 200])
    def test_the_bar_takes_the_room_that_is_left(self, width):
        line = self.view(a_run(steps=4)[:7]).line(width).plain
        assert len(line) <= width
        assert 4 <= line.count("━") + line.count("─") <= 24

    def test_after_the_last_step_it_is_finishing(self):
        line = self.view(a_run(steps=4)[:-1]).line().plain
        assert line.endswith("100 tok/s  finishing")

    def test_a_new_attempt_is_shown_and_has_its_own_pace(self):
        view = self.view(a_run(steps=4)[:7])
        again = a_run(steps=4)[2]
        again.attempt = 2
        view.apply(again)
        assert "attempt 2" in view.line().plain
        assert view.remaining_seconds() is None


@pytest.mark.parametrize("module", ["grpc", "torch", "rich.live", "psutil", "google.protobuf"])
def test_the_command_line_starts_without_what_is_slow(module):
    code = f"import sys; import tunesmith.cli.app; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_imports_without_grpc():
    code = "import sys; import tunesmith; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_on_a_terminal_one_line_is_redrawn_and_warnings_stay_above(monkeypatch, platform):
    import os
    import pty

    task = platform.tasks.add(events=a_run())
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "tunesmith.cli", "task", "watch", task.name]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=child, stderr=subprocess.PIPE, env=environment)
    os.close(child)
    shown = b""
    while chunk := _read(parent):
        shown += chunk
    os.close(parent)
    _, talk = process.communicate(timeout=30)
    assert process.returncode == 0
    text = shown.decode()
    assert "[rank 1] careful" in text
    assert "SUCCEEDED" in text
    assert "step 3/3" in text
    assert b"succeeded: artifacts/made" in talk


def _read(descriptor: int) -> bytes:
    """What comes next; nothing at the end, which a terminal reports as an error."""
    import os

    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("facts", "left", "text"),
    [
        ({"state": "AVAILABLE"}, timedelta(days=3), "expires in 3 d"),
        ({"state": "AVAILABLE"}, timedelta(minutes=5), "expires in 5 min"),
        ({"state": "AVAILABLE", "pinned": True}, timedelta(days=-3), "pinned"),
        ({"state": "AVAILABLE"}, timedelta(days=-3), "in use"),
        ({"state": "EXPIRED"}, timedelta(days=2), "expired, restorable until "),
        ({"state": "EXPIRED"}, timedelta(days=-2), "expired"),
        ({"state": "DELETED"}, timedelta(days=-2), "deleted "),
        ({"state": "UPLOADING"}, timedelta(0), "uploading"),
    ],
)
def test_the_life_of_an_artifact_in_words(facts, left, text):
    from google.protobuf.timestamp_pb2 import Timestamp

    from tunesmith.v1.artifact_pb2 import Artifact

    moment = Timestamp()
    moment.FromDatetime(NOW + left)
    field = "expire_time" if facts["state"] == "AVAILABLE" else "delete_time"
    words = life(Artifact(**facts, **{field: moment}), NOW)
    assert words.startswith(text)
    assert words == text or text.endswith(" ")


@pytest.mark.parametrize(
    ("facts", "left", "text"),
    [
        ({"state": "AVAILABLE"}, timedelta(days=3), "expires in 3 d (DATE)"),
        ({"state": "AVAILABLE"}, timedelta(days=-3), "in use"),
        ({"state": "AVAILABLE", "pinned": True}, timedelta(days=3), "pinned; once unpinned it expires in 3 d (DATE)"),
        ({"state": "AVAILABLE", "pinned": True}, timedelta(days=-3), "pinned; once unpinned it expires at once (DATE)"),
        ({"state": "EXPIRED"}, timedelta(days=-1), "expired"),
    ],
)
def test_how_long_an_artifact_is_kept_with_the_date(facts, left, text):
    from tunesmith.cli.output import when
    from tunesmith.v1.artifact_pb2 import Artifact

    artifact = Artifact(**facts)
    artifact.expire_time.FromDatetime(NOW + left)
    artifact.delete_time.FromDatetime(NOW + left)
    assert kept(artifact, NOW) == text.replace("DATE", when(artifact.expire_time))
