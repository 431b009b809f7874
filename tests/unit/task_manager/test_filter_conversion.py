"""Conditions of a request: what is wrong is named, what is right arrives."""

import datetime
import uuid
from typing import Any

import pytest
from google.protobuf import field_mask_pb2, timestamp_pb2

from services.common.errors import InvalidArgument
from services.task_manager.domain.task import State, TaskUpdate
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.filter_conversion import filter_from_proto, filter_of_list, time_of
from services.task_manager.update_conversion import update_from_proto
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2, task_spec_pb2

DATASET = uuid.uuid4()


def test_every_condition_arrives() -> None:
    given = api.TaskFilter(
        states=[task_pb2.Task.RUNNING, task_pb2.Task.FAILED, task_pb2.Task.RUNNING],
        text="Night",
        base_model="tiny",
        methods=[task_spec_pb2.FineTuning.SFT, task_spec_pb2.FineTuning.DPO],
        tunings=[task_spec_pb2.FineTuning.FULL],
        labels={"team": "a"},
        id_prefix="0123abcd",
        creator="ann",
        from_create_time=timestamp_pb2.Timestamp(seconds=1),
        before_create_time=timestamp_pb2.Timestamp(seconds=2),
    )
    epoch = datetime.datetime.fromtimestamp(0, datetime.UTC)
    assert filter_from_proto(given) == TaskFilter(
        states=(State.FAILED, State.RUNNING),
        text="Night",
        base_model="baseModels/tiny",
        methods=("DPO", "SFT"),
        tunings=("FULL",),
        labels={"team": "a"},
        creator="ann",
        ids=(uuid.UUID("0123abcd" + "0" * 24), uuid.UUID("0123abcd" + "f" * 24)),
        from_create_time=epoch + datetime.timedelta(seconds=1),
        before_create_time=epoch + datetime.timedelta(seconds=2),
    )


def test_nothing_said_is_everything() -> None:
    assert filter_from_proto(api.TaskFilter()) == TaskFilter()
    assert filter_of_list(api.ListTasksRequest()) == TaskFilter()


def test_a_list_has_conditions_of_its_own() -> None:
    request = api.ListTasksRequest(
        states=[task_pb2.Task.QUEUED], display_name_contains="x", dataset=f"datasets/{DATASET}", filter={"text": "y"}
    )
    assert filter_of_list(request) == TaskFilter(states=(State.QUEUED,), display_name_contains="x", text="y", dataset=DATASET)


def test_a_list_by_what_tasks_start_from() -> None:
    name = f"artifacts/{uuid.UUID(int=1)}"
    assert filter_of_list(api.ListTasksRequest(initial_artifacts=[name])) == TaskFilter(origin_artifacts=(name,))
    version = "models/mine/versions/3"
    both = TaskFilter(origin_artifacts=(version, name))
    for form in (version, "models/mine@3"):
        assert filter_of_list(api.ListTasksRequest(initial_artifacts=[form, name])) == both
    with pytest.raises(InvalidArgument) as caught:
        filter_of_list(api.ListTasksRequest(initial_artifacts=[name] * 101))
    assert "at most 100" in caught.value.violations[0].description


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"initial_artifacts": [f"artifacts/{uuid.UUID(int=1)}", "tasks/x"]}, "initial_artifacts[1]"),
        ({"initial_artifacts": ["models/mine"]}, "initial_artifacts[0]"),
        ({"initial_artifacts": ["models/mine@best"]}, "initial_artifacts[0]"),
        ({"initial_artifacts": ["models/../x@1"]}, "initial_artifacts[0]"),
        ({"states": [0]}, "states[0]"),
        ({"states": [1, 99]}, "states[1]"),
        ({"display_name_contains": "\0"}, "display_name_contains"),
        ({"dataset": "tasks/x"}, "dataset"),
        ({"states": [1], "filter": {"states": [2]}}, "filter.states"),
        ({"filter": {"states": [0]}}, "filter.states[0]"),
        ({"filter": {"text": "a\0"}}, "filter.text"),
        ({"filter": {"base_model": "A B"}}, "filter.base_model"),
        ({"filter": {"methods": [0]}}, "filter.methods[0]"),
        ({"filter": {"methods": [1, 77]}}, "filter.methods[1]"),
        ({"filter": {"tunings": [77]}}, "filter.tunings[0]"),
        ({"filter": {"labels": {"a": "\0"}}}, "filter.labels['a']"),
        ({"filter": {"id_prefix": "0123ABCD"}}, "filter.id_prefix"),
        ({"filter": {"id_prefix": "0" * 33}}, "filter.id_prefix"),
        ({"filter": {"id_prefix": "0123-abc"}}, "filter.id_prefix"),
        ({"filter": {"from_create_time": timestamp_pb2.Timestamp(seconds=2**40)}}, "filter.from_create_time"),
    ],
)
def test_what_is_wrong_is_named(request_fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        filter_of_list(api.ListTasksRequest(**request_fields))
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_time_that_no_calendar_has_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        time_of(timestamp_pb2.Timestamp(seconds=-(2**40)), "after_time")
    assert [violation.field for violation in caught.value.violations] == ["after_time"]


def updating(*paths: str, **values: Any) -> TaskUpdate:
    task = task_pb2.Task(**values)
    return update_from_proto(api.UpdateTaskRequest(task=task, update_mask=field_mask_pb2.FieldMask(paths=paths)))


def test_only_what_the_mask_names_is_changed() -> None:
    assert updating("description", display_name="x", description="y", labels={"a": "b"}) == TaskUpdate(description="y")
    assert updating("labels", "display_name", display_name="x") == TaskUpdate(display_name="x", labels={})


@pytest.mark.parametrize(
    ("paths", "values", "fields"),
    [
        ([], {}, ["update_mask"]),
        (["spec", "state"], {}, ["update_mask", "update_mask"]),
        (["display_name"], {"display_name": " "}, ["task.display_name"]),
        (["display_name"], {"display_name": "x" * 129}, ["task.display_name"]),
        (["description"], {"description": "x" * 2001}, ["task.description"]),
        (["labels"], {"labels": {"": "v"}}, ["task.labels['']"]),
    ],
)
def test_a_bad_update_names_its_fields(paths: list[str], values: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        updating(*paths, **values)
    assert [violation.field for violation in caught.value.violations] == fields
