"""From a request to what is recorded: when a task may start, how often it is tried, and what makes a repeat a repeat."""

import datetime
from collections.abc import Callable, Sequence

import pytest
from google.protobuf import timestamp_pb2
from plan_values import ASK, findings

from services.common.errors import InvalidArgument
from services.task_manager.creation import _digest
from services.task_manager.domain.throughput import RunSpeed
from services.task_manager.domain.validation import check
from services.task_manager.planning import Planning
from services.task_manager.spec_conversion import draft_from_proto, spec_to_store
from tunesmith.v1 import task_pb2, task_spec_pb2

TIME = timestamp_pb2.Timestamp(seconds=1_900_000_000)


def a_request(**changes: object) -> task_pb2.Task:
    return task_pb2.Task(display_name="n", labels={"a": "b"}, **changes)  # type: ignore[arg-type]


def test_what_is_not_given_is_none() -> None:
    draft = draft_from_proto(a_request(), None)
    assert (draft.not_before, draft.max_attempts) == (None, None)


def test_time_and_attempts_are_read() -> None:
    draft = draft_from_proto(a_request(not_before_time=TIME, max_attempts=2), None)
    assert draft.not_before == datetime.datetime(2030, 3, 17, 17, 46, 40, tzinfo=datetime.UTC)
    assert draft.max_attempts == 2


def test_who_asks_is_read() -> None:
    assert draft_from_proto(a_request(creator="ann"), None).creator == "ann"
    assert draft_from_proto(a_request(), None).creator == ""


def test_a_time_that_no_calendar_has_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        draft_from_proto(a_request(not_before_time=timestamp_pb2.Timestamp(seconds=10**15)), None)
    assert [violation.field for violation in caught.value.violations] == ["task.not_before_time"]


LABELS = task_spec_pb2.TaskSpec(runner_labels={"zone": "a"})


def test_labels_of_runners_are_read_and_checked_like_those_of_tasks() -> None:
    assert draft_from_proto(a_request(spec=LABELS), None).runner_labels == {"zone": "a"}
    wrong = task_spec_pb2.TaskSpec(runner_labels={"": "a", "zone": "x" * 513})
    with pytest.raises(InvalidArgument) as caught:
        check(draft_from_proto(a_request(spec=wrong), None), named=True)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["task.spec.runner_labels['']", "task.spec.runner_labels['zone']", "task.spec.kind"]


def test_labels_of_runners_make_another_request_through_the_spec() -> None:
    specs = [task_spec_pb2.TaskSpec(runner_labels=labels) for labels in ({}, {"zone": "a"}, {"zone": "b"})]
    stored = [spec_to_store(spec, ASK) for spec in specs]
    digests = {_digest(draft_from_proto(a_request(spec=spec), None), each) for spec, each in zip(specs, stored, strict=True)}
    assert len(digests) == 3


def test_every_difference_makes_another_request() -> None:
    variants = [{}, {"priority": 1}, {"not_before_time": TIME}, {"max_attempts": 1}, {"priority": 1, "max_attempts": 1}]
    variants.append({"creator": "ann"})
    digests = [_digest(draft_from_proto(a_request(**changes), None), b"spec") for changes in variants]
    assert len(set(digests)) == len(variants)
    assert digests == [_digest(draft_from_proto(a_request(**changes), None), b"spec") for changes in variants]


def test_the_digest_of_a_plain_request_is_what_it_always_was() -> None:
    """Otherwise a repeat across an upgrade would be refused as another request."""
    expected = "39ac3c1e011c4ced5e54c7d5dd3a01126123ae04d5570474578cb3736d8e297a"
    assert _digest(draft_from_proto(a_request(), None), b"spec").hex() == expected


class Speeds:
    """Earlier runs."""

    def __init__(self, *speeds: RunSpeed) -> None:
        self._speeds = speeds

    async def of(self, base_model: str) -> Sequence[RunSpeed]:
        assert base_model == ASK.base_model
        return self._speeds


@pytest.mark.parametrize(
    ("speeds", "seconds"),
    [(list, None), (lambda: [RunSpeed(findings().run_kind, 61.0)], 320.0)],
    ids=["no run was like it", "one was"],
)
async def test_a_duration_is_expected_from_earlier_runs_alone(
    speeds: Callable[[], list[RunSpeed]], seconds: float | None
) -> None:
    planning = Planning(None, None, Speeds(*speeds()), lambda _: pytest.fail("the machine could tell, and is not asked"))  # type: ignore[arg-type]
    expected = await planning.expected_duration(findings())
    assert (expected.total_seconds() if expected else None) == seconds
