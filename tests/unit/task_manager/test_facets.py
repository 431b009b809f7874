"""Which filters are looked up by facets together, and by which; the names are those that the database gives them."""

import uuid

import pytest

from services.task_manager.domain.facets import facets, needs_search, scarce_states
from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter

DATASET = uuid.UUID("0000000a-0000-0000-0000-00000000000b")
IN_ORDER = {
    "nothing": TaskFilter(),
    "a state": TaskFilter(states=[State.FAILED]),
    "a base model": TaskFilter(base_model="baseModels/x"),
    "a method": TaskFilter(methods=["SFT"]),
    "a kind": TaskFilter(kinds=["EVALUATION"]),
    "a text of two letters": TaskFilter(text="ab"),
    "a creator": TaskFilter(creator="ann"),
    "waiting and running, which is LIVE": TaskFilter(states=[State.QUEUED, State.RUNNING]),
    "a scarce state and more": TaskFilter(states=[State.RUNNING], labels={"a": "b"}, text="night"),
    "scarce states and more": TaskFilter(states=[State.PAUSED, State.STARTING], base_model="baseModels/x"),
    "a short text and more": TaskFilter(text="ab", labels={"a": "b"}, base_model="baseModels/x"),
    "a short name and more": TaskFilter(display_name_contains="a", text="night", states=[State.FAILED]),
}
SEARCHED = {
    "a label and a base model": TaskFilter(labels={"a": "b"}, base_model="baseModels/x"),
    "a state and a text": TaskFilter(states=[State.FAILED], text="abc"),
    "two texts": TaskFilter(text="night", display_name_contains="run"),
    "a text, which many tasks may have or few": TaskFilter(text="abc"),
    "a name": TaskFilter(display_name_contains="abc"),
    "a label": TaskFilter(labels={"a": "b"}),
    "a dataset": TaskFilter(dataset=DATASET),
    "two labels": TaskFilter(labels={"a": "b", "c": "d"}),
    "two states": TaskFilter(states=[State.FAILED, State.CANCELLED]),
    "two methods": TaskFilter(methods=["KTO", "SFT"]),
    "a tuning, which has no index": TaskFilter(tunings=["FULL"]),
    "a scarce state, a common one, and more": TaskFilter(states=[State.RUNNING, State.FAILED], creator="ann"),
    "waiting, and a kind": TaskFilter(states=[State.QUEUED], kinds=["EVALUATION"]),
}


@pytest.mark.parametrize("wanted", IN_ORDER.values(), ids=IN_ORDER)
def test_what_an_index_has_in_order_is_left_to_it(wanted: TaskFilter) -> None:
    assert not needs_search(wanted)


@pytest.mark.parametrize("wanted", SEARCHED.values(), ids=SEARCHED)
def test_what_no_index_has_in_order_needs_search(wanted: TaskFilter) -> None:
    assert needs_search(wanted)


def test_facets_are_named_as_in_the_database() -> None:
    wanted = TaskFilter(
        states=[State.CANCELLED, State.FAILED],
        text="night",
        dataset=DATASET,
        base_model="baseModels/x",
        methods=["DPO", "SFT"],
        tunings=["LORA"],
        kinds=["EVALUATION"],
        labels={"team": "a", "tier": ""},
        creator="ann",
    )
    assert facets(wanted) == [
        ["state CANCELLED", "state FAILED"],
        ["method DPO", "method SFT"],
        ["tuning LORA"],
        ["kind EVALUATION"],
        ["base_model baseModels/x"],
        ["creator ann"],
        ["dataset 0000000a-0000-0000-0000-00000000000b"],
        ["label team=a"],
        ["label tier="],
    ]
    assert facets(TaskFilter(text="night")) == []


@pytest.mark.parametrize(
    ("states", "names", "scarce"),
    [
        ([State.QUEUED], ["state LIVE"], []),
        ([State.QUEUED, State.RUNNING, State.FAILED], ["state FAILED", "state LIVE"], []),
        ([State.RUNNING, State.FAILED], ["state FAILED"], [State.RUNNING]),
        ([State.PAUSED, State.PAUSING], [], [State.PAUSED, State.PAUSING]),
    ],
    ids=["waiting", "waiting and others", "scarce and common", "scarce"],
)
def test_scarce_states_have_no_facet_of_their_own(states: list[State], names: list[str], scarce: list[State]) -> None:
    wanted = TaskFilter(states=states)
    assert facets(wanted) == ([names] if names else [])
    assert scarce_states(wanted) == scarce
