"""When a model may be loaded though nobody has asked it yet."""

import pytest

from services.inference.spare import Spare

FREE = 1_000


@pytest.mark.parametrize(
    ("size", "available", "said"),
    [
        (100, 200, ""),
        (100, 0, ""),
        (101, 10**6, "it takes 101 bytes; at most 100 are loaded ahead"),
        (100, 199, "it takes 100 bytes; this machine has 199 left, of which half are not touched"),
    ],
    ids=["exactly fits", "the machine does not tell", "too large", "the machine has too little"],
)
def test_size_and_machine_decide(size: int, available: int, said: str) -> None:
    assert Spare(100, lambda: available).refusal(size, FREE) == said


@pytest.mark.parametrize(
    ("device", "available", "said"),
    [
        (300, 10**6, ""),
        (0, 10**6, ""),
        (299, 10**6, "it takes 150 bytes; its device has 299 left, of which half are not touched"),
        (10**6, 299, "it takes 150 bytes; this machine has 299 left, of which half are not touched"),
    ],
    ids=["exactly fits", "no device of its own", "the device has too little", "the machine has too little"],
)
def test_what_the_engine_sets_aside_for_it_counts_on_the_machine_and_on_the_device(
    device: int, available: int, said: str
) -> None:
    assert Spare(100, lambda: available, set_aside=50).refusal(100, FREE, device) == said


@pytest.mark.parametrize(
    ("free", "said"), [(50, ""), (49, "it takes 50 bytes; 49 are not in use"), (-1, "it takes 50 bytes; 0 are not in use")]
)
def test_what_is_loaded_does_not_give_way(free: int, said: str) -> None:
    assert Spare(100).refusal(50, free) == said


def test_nothing_is_loaded_ahead_unless_it_is_said() -> None:
    assert Spare().refusal(1, FREE) == "it takes 1 bytes; at most 0 are loaded ahead"
