"""The SQL of a search by facets: no text of a user is in it, and only what was asked for is looked up."""

import datetime
import uuid

from services.task_manager import facet_search
from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter

TIME = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
AFTER = (TIME, uuid.UUID(int=1))


def test_a_users_text_is_a_parameter() -> None:
    wanted = TaskFilter(text="'; DROP", labels={"'a": "%b"}, creator="ann'", base_model="baseModels/evil")
    for query, parameters in (facet_search._search(wanted, None, 51), facet_search._walk(wanted, None, 51)):
        assert not any(text in query for text in ("DROP", "'a", "%b", "ann'", "evil"))
        assert parameters["text"] == "'; DROP"
    assert facet_search._search(wanted, None, 51)[1]["every"] == [
        "base_model baseModels/evil",
        "creator ann'",
        "label 'a=%b",
    ]


def test_what_has_one_value_is_looked_up_together_and_what_has_several_by_itself() -> None:
    wanted = TaskFilter(states=[State.FAILED, State.CANCELLED], methods=["KTO", "SFT"], creator="ann", labels={"a": "b"})
    query, parameters = facet_search._search(wanted, None, 51)
    assert parameters["every"] == ["creator ann", "label a=b"]
    assert parameters["any_0"] == ["state CANCELLED", "state FAILED"]
    assert parameters["any_1"] == ["method KTO", "method SFT"]
    assert query.count("@> one.every") == 1
    assert "&& one.any_0" in query
    assert "&& one.any_1" in query


def test_without_single_values_nothing_is_looked_up_by_them() -> None:
    query, parameters = facet_search._search(TaskFilter(methods=["KTO", "SFT"]), None, 51)
    assert "one.every" not in query, "every task has all of no facets"
    assert "every" not in parameters
    assert "rare_parts" not in query
    query, parameters = facet_search._search(TaskFilter(text="night", methods=["KTO", "SFT"]), None, 51)
    assert "@> one.every" in query
    assert parameters["every"] == []


def test_scarce_states_are_read_beside() -> None:
    wanted = TaskFilter(states=[State.RUNNING, State.FAILED], creator="ann")
    _, parameters = facet_search._search(wanted, None, 51)
    assert parameters["every"] == ["state FAILED", "creator ann"]
    assert parameters["scarce"] == ["RUNNING"]
    assert parameters["states"] == ["RUNNING", "FAILED"], "each task is compared with the whole filter"


def test_a_page_begins_behind_the_last_one_and_before_the_time_that_is_asked_for() -> None:
    wanted = TaskFilter(before_create_time=TIME, labels={"a": "b"}, creator="ann")
    for query, parameters in (facet_search._search(wanted, AFTER, 51), facet_search._walk(wanted, AFTER, 51)):
        assert "(t.create_time, t.id) < (%(after_time)s, %(after_id)s) AND t.create_time < %(before_create_time)s" in query
        assert (parameters["after_time"], parameters["after_id"], parameters["before_create_time"]) == (*AFTER, TIME)
    query, parameters = facet_search._search(TaskFilter(labels={"a": "b"}, creator="ann"), None, 51)
    assert "after_id" not in query
    assert (parameters["after_time"], parameters["from_create_time"], parameters["before_create_time"]) == (None, None, None)


def test_the_newest_tasks_that_are_looked_at_grow_with_the_page() -> None:
    for limit in (2, 51, 1001):
        assert facet_search._walk(TaskFilter(tunings=["LORA"]), None, limit)[1]["looked_at"] == 20 * limit
