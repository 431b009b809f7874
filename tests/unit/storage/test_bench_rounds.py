"""The rounds of the storage benchmark: fair turns, and shares that compare what ran in the same round."""

from tests.bench.transfer_rounds import Measured, in_turns, table


def measured(seconds: float) -> Measured:
    return Measured(seconds, seconds * 10, (seconds, 0.25, 0.5))


def test_every_way_is_first_as_often_as_the_others() -> None:
    rounds = [list(in_turns(("a", "b", "c"), number)) for number in range(6)]
    assert [each[0] for each in rounds] == ["a", "b", "c"] * 2
    assert {frozenset(each) for each in rounds} == {frozenset("abc")}


def test_shares_are_of_the_same_round_and_their_spread_is_told() -> None:
    # The machine slows down fourfold; beside each other nothing changes.
    first, second = [measured(each) for each in (1, 2, 4)], [measured(each) for each in (2, 4, 8)]
    *_, one, two = table({"sdk": first, "ours": second}, 8)
    assert one == "| sdk | 4 (2 to 8) | 1.00 (1.00 to 1.00) | 40 | 2.00, 0.25, 0.50 |"
    assert two == "| ours | 2 (1 to 4) | 0.50 (0.50 to 0.50) | 80 | 4.00, 0.25, 0.50 |"
