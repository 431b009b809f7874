"""Filters of tasks as SQL: no text of a user is in it, and one value is written so that an index gives the order."""

import pytest

from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.task_conditions import conditions


@pytest.mark.parametrize(
    ("wanted", "condition", "value"),
    [
        (TaskFilter(), "true", None),
        (TaskFilter(states=(State.PAUSED,)), "t.state = %(states)s::task_manager.task_state", "PAUSED"),
        (
            TaskFilter(states=(State.PAUSED, State.QUEUED)),
            "t.state = ANY(%(states)s::task_manager.task_state[])",
            ["PAUSED", "QUEUED"],
        ),
        (TaskFilter(methods=("KTO",)), "t.method = %(methods)s", "KTO"),
        (TaskFilter(methods=("KTO", "SFT")), "t.method = ANY(%(methods)s)", ["KTO", "SFT"]),
    ],
)
def test_one_value_is_compared_and_several_are_searched(wanted: TaskFilter, condition: str, value: object) -> None:
    sql, parameters = conditions(wanted)
    assert sql == condition
    assert list(parameters.values()) == ([] if value is None else [value])


def test_a_users_text_is_a_parameter() -> None:
    sql, parameters = conditions(TaskFilter(text="'; DROP", labels={"a": "%"}, base_model="baseModels/x"))
    assert "DROP" not in sql
    assert sql.count(" AND ") == 2
    assert parameters["text"] == "'; DROP"


def test_texts_are_looked_up_only_by_the_index_and_compared_in_any_case() -> None:
    wanted = TaskFilter(text="needle", display_name_contains="n", creator="ann")
    plain, parameters = conditions(wanted)
    looked_up, same = conditions(wanted, by_index=True)
    assert looked_up.startswith(plain + " AND ")
    assert "task_text" not in plain
    assert looked_up.count("task_text") == 2
    assert same == parameters
    assert conditions(TaskFilter(creator="ann"), by_index=True) == conditions(TaskFilter(creator="ann"))
