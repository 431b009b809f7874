"""Where a run fits: labels, processes, memory; what is taken and given back."""

import dataclasses

import pytest

from services.task_manager.domain.placement import ANY_MEMORY, Machine, Placement, bound_by_claims, labels_text, why_none_suits

ZONE, FAST = {"zone": "a"}, {"disk": "fast"}
PLAIN = Machine("a:1", 4, 2)
LABELLED = Machine("a:1", 4, 2, ZONE | FAST, 100, 50)


@pytest.mark.parametrize(
    ("labels", "suits"),
    [({}, True), (ZONE, True), (ZONE | FAST, True), ({"zone": "b"}, False), ({"gpu": ""}, False), (ZONE | {"disk": ""}, False)],
)
def test_a_trainer_needs_every_label_and_may_have_more(labels: dict[str, str], suits: bool) -> None:
    need = Placement(1, 0, labels)
    assert (LABELLED.suits(need), LABELLED.has_room(need)) == (suits, suits)


def test_a_task_without_labels_goes_anywhere() -> None:
    assert PLAIN.has_room(Placement())
    assert LABELLED.has_room(Placement())


@pytest.mark.parametrize(
    ("processes", "memory", "suits", "has_room"),
    [(2, 50, True, True), (3, 0, True, False), (5, 0, False, False), (1, 51, True, False), (1, 101, False, False)],
)
def test_processes_and_memory_both_have_to_fit(processes: int, memory: int, suits: bool, has_room: bool) -> None:
    need = Placement(processes, memory)
    assert (LABELLED.suits(need), LABELLED.has_room(need)) == (suits, has_room)


def test_memory_that_either_side_does_not_know_is_not_looked_at() -> None:
    assert PLAIN.has_room(Placement(1, 10**15))
    assert dataclasses.replace(LABELLED, free_memory=0).has_room(Placement(1, 0))


def test_what_a_run_takes_it_gives_back() -> None:
    run = Placement(2, 30)
    taken = LABELLED.without(run)
    assert (taken.free, taken.free_memory) == (0, 20)
    assert taken.regained(run) == LABELLED


def test_nothing_grows_beyond_the_whole() -> None:
    grown = LABELLED.regained(Placement(9, 900))
    assert (grown.free, grown.free_memory) == (4, 100)
    assert PLAIN.regained(Placement(1, 9)).free_memory == ANY_MEMORY


@pytest.mark.parametrize(
    ("runs", "free", "memory"),
    [
        ([], 2, 50),
        ([Placement(1, 30)], 2, 50),
        ([Placement(3, 60)], 1, 40),
        ([Placement(3, 60), Placement(3, 60)], 0, 0),
    ],
    ids=["none", "the trainer sees more", "the claims say more", "more than there is"],
)
def test_the_smaller_of_what_trainer_and_claims_say_is_free(runs: list[Placement], free: int, memory: int) -> None:
    found = bound_by_claims(LABELLED, iter(runs))
    assert (found.free, found.free_memory) == (free, memory)


def test_labels_are_told_in_order() -> None:
    assert labels_text(ZONE | FAST) == "disk=fast,zone=a"


@pytest.mark.parametrize(
    ("need", "machines", "told"),
    [
        (Placement(9, 0, ZONE), [], ""),
        (Placement(4), [PLAIN], ""),
        (Placement(5), [PLAIN], "needs 5 processes; the largest trainer has 4"),
        (Placement(1, 0, ZONE), [PLAIN], "no runner with zone=a is there"),
        (Placement(1, 200, ZONE), [PLAIN, LABELLED], "needs about 0.0 GB of memory; the largest trainer with zone=a has 0.0 GB"),
    ],
    ids=["nobody", "full", "small", "label", "memory"],
)
def test_what_can_never_be_placed_says_why(need: Placement, machines: list[Machine], told: str) -> None:
    said = why_none_suits(need, machines)
    assert said.startswith(told)
    assert bool(said) is bool(told)


def test_a_need_that_one_machine_meets_in_part_and_another_in_part_is_met_by_none() -> None:
    many, much = Machine("a:1", 8, 8, {}, 10, 10), Machine("b:1", 1, 1, {}, 1000, 1000)
    assert "with so many processes" in why_none_suits(Placement(2, 100), [many, much])
