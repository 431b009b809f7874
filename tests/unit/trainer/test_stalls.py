"""Ranks that do not move: when they are asked, what is told, and what is no stall."""

import pytest

from services.trainer.stalls import Stall, StallWatch, stall_message


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def moving(clock: Clock, *, floor: float = 60.0, seconds: float = 1.0, steps: int = 6, ranks: int = 1) -> StallWatch:
    """A watch over ranks that made their steps in so many seconds each."""
    watch = StallWatch(floor, clock)
    for step in range(steps):
        for rank in range(ranks):
            watch.beat(rank, step, "")
        clock.now += seconds
    return watch


def test_before_the_first_sign_of_life_nothing_is_a_stall(clock: Clock) -> None:
    watch = StallWatch(60, clock)
    clock.now += 1e6
    assert (watch.to_ask(), watch.explained()) == ([], [])


@pytest.mark.parametrize(("seconds", "limit"), [(1.0, 60.0), (10.0, 200.0)], ids=["floor", "20 steps"])
def test_silence_for_the_floor_and_for_20_steps_is_a_stall(clock: Clock, seconds: float, limit: float) -> None:
    watch = moving(clock, seconds=seconds)
    clock.now += limit - seconds - 0.1
    assert watch.to_ask() == []
    clock.now += 0.1
    assert watch.to_ask() == [0]
    assert watch.to_ask() == [], "asked once"


def test_as_long_as_nobody_knows_how_long_a_step_takes_there_is_more_patience(clock: Clock) -> None:
    watch = moving(clock, steps=2)
    clock.now += 170
    assert watch.to_ask() == []
    clock.now += 10
    assert watch.to_ask() == [0]


def test_one_long_pause_does_not_make_long_pauses_usual(clock: Clock) -> None:
    watch = moving(clock, steps=9)
    clock.now += 50
    watch.beat(0, 9, "")
    clock.now += 60
    assert watch.to_ask() == [0]


def test_what_is_done_between_steps_is_a_sign_of_life_but_no_measure_of_a_step(clock: Clock) -> None:
    watch = moving(clock, seconds=10.0)
    for _ in range(200):
        watch.beat(0, 6, "busy")
        clock.now += 0.1
    clock.now += 199.7
    assert watch.to_ask() == []
    clock.now += 0.5
    assert watch.to_ask() == [0]


def test_what_a_rank_says_after_the_question_explains_its_stall_once(clock: Clock) -> None:
    watch = moving(clock, ranks=2)
    watch.heard(1, "before")
    clock.now += 60
    assert watch.to_ask() == [0, 1]
    assert watch.explained() == [], "it has time to answer"
    watch.heard(1, 'File "loop.py", line 7 in train' + "x" * 1000)
    clock.now += 2
    silent, told = watch.explained()
    assert (silent.rank, silent.lines, silent.step) == (0, (), 5)
    assert told.lines == (('File "loop.py", line 7 in train' + "x" * 1000)[:500],)
    assert (told.seconds, told.usual) == (63.0, 1.0)
    assert watch.explained() == []


def test_no_more_than_50_lines_are_kept(clock: Clock) -> None:
    watch = moving(clock)
    clock.now += 60
    watch.to_ask()
    for number in range(80):
        watch.heard(0, f"line {number}")
    clock.now += 2
    [stall] = watch.explained()
    assert (len(stall.lines), stall.lines[-1]) == (50, "line 49")


def test_a_rank_that_moves_again_can_stall_again(clock: Clock) -> None:
    watch = moving(clock)
    clock.now += 60
    watch.to_ask()
    watch.beat(0, 6, "")
    clock.now += 3
    assert watch.explained() == [], "it moved in time"
    clock.now += 60
    assert watch.to_ask() == [0]


def test_after_the_end_and_for_a_new_start_there_is_no_stall(clock: Clock) -> None:
    watch = moving(clock, ranks=2)
    watch.beat(0, 6, "end")
    clock.now += 1000
    assert watch.to_ask() == [1]
    watch.forget()
    assert (watch.to_ask(), watch.explained()) == ([], [])
    watch.heard(1, "late")


@pytest.mark.parametrize(
    ("stall", "text"),
    [
        (
            Stall(1, 7, 61.2, 1.25, ("a",)),
            "rank 1 has made no progress for 61 s after step 7, where 1.25 s are usual; it waits, its stacks are below",
        ),
        (
            Stall(0, 0, 180.0, None, ()),
            "rank 0 has made no progress for 180 s after step 0; it waits, it did not answer when asked for its stacks",
        ),
    ],
    ids=["answered", "silent"],
)
def test_a_stall_in_one_sentence(stall: Stall, text: str) -> None:
    assert stall_message(stall, "waits") == text


def test_what_is_usual_is_the_slowest_ranks_median_and_unknown_at_first(clock: Clock) -> None:
    watch = StallWatch(60, clock)
    assert watch.usual() == 0.0
    for step in range(5):
        watch.beat(0, step, "")
        clock.now += 1.0
        watch.beat(1, 2 * step, "")
        watch.beat(1, 2 * step + 1, "busy")
        clock.now += 2.0
    assert watch.usual() == 3.0
