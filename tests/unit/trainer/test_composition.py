"""Weights and splits: exact counts, no equal rows on both sides, the same result every time."""

import collections
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.trainer.composition import Composer, Part, RowCounts, Stopped
from services.trainer.training.row_numbers import numbers_beside, row_numbers

TRAIN, HELD_OUT = "train.jsonl", "validation.jsonl"
rows_of_one = st.lists(st.integers(0, 30), max_size=40)


def row(number: int) -> bytes:
    return json.dumps({"text": f"row {number}"}).encode()


def write(directory: Path, *datasets: list[int]) -> list[Path]:
    paths = [directory / f"{index}.jsonl" for index in range(len(datasets))]
    for path, numbers in zip(paths, datasets, strict=True):
        path.write_bytes(b"".join(row(number) + b"\n" for number in numbers))
    return paths


def compose(
    directory: Path, datasets: list[list[int]], weights: list[float], ratio: float | None = None, seed: int = 7
) -> tuple[RowCounts, list[bytes], list[bytes]]:
    """(counts, training rows, rows held out)."""
    parts = [Part(path, weight) for path, weight in zip(write(directory, *datasets), weights, strict=True)]
    counts = Composer(parts, seed=seed).compose(ratio, directory / TRAIN, directory / HELD_OUT)
    held_out = directory / HELD_OUT
    return counts, (directory / TRAIN).read_bytes().splitlines(), held_out.read_bytes().splitlines() if ratio else []


@given(numbers=st.lists(st.integers(0, 30), min_size=1, max_size=40), weight=st.floats(0.05, 4))
def test_a_weight_gives_exactly_its_rows_and_shares_the_copies_evenly(
    numbers: list[int], weight: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wanted = round(len(numbers) * weight)
    if wanted == 0:
        return
    # Rows that differ by their place, so that copies of each can be counted.
    distinct = list(range(len(numbers)))

    counts, train, _ = compose(tmp_path_factory.mktemp("w"), [distinct], [weight])

    assert counts == RowCounts((wanted,), 0)
    assert len(train) == wanted
    copies = collections.Counter(train)
    least = wanted // len(distinct)
    assert {copies[row(number)] for number in distinct} <= {least, least + 1}


@given(first=rows_of_one, second=rows_of_one, ratio=st.floats(0.01, 0.5), seed=st.integers(0, 2**31 - 1))
def test_a_split_parts_all_rows_and_never_equal_ones(
    first: list[int], second: list[int], ratio: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    datasets, everything = [first, second], collections.Counter(map(row, first + second))
    if len(everything) < 2:
        with pytest.raises(ServiceError) as caught:
            compose(tmp_path_factory.mktemp("s"), datasets, [1, 1], ratio, seed)
        assert caught.value.reason == "DATASET_UNUSABLE"
        return

    counts, train, held_out = compose(tmp_path_factory.mktemp("s"), datasets, [1, 1], ratio, seed)

    assert collections.Counter(train) + collections.Counter(held_out) == everything
    assert not set(train) & set(held_out)
    assert train
    assert held_out
    assert (sum(counts.training), counts.validation) == (len(train), len(held_out))
    # A prefix of groups of equal rows cannot miss the wish by more than half of the largest group, unless that is all there is.
    target = min(max(1, round(len(first + second) * ratio)), len(first + second) - 1)
    assert abs(len(held_out) - target) <= max(everything.values())


@given(count=st.integers(2, 60), ratio=st.floats(0.01, 0.5))
def test_rows_that_all_differ_are_split_exactly(count: int, ratio: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    counts, _, held_out = compose(tmp_path_factory.mktemp("e"), [list(range(count))], [1], ratio)

    assert counts.validation == len(held_out) == min(max(1, round(count * ratio)), count - 1)


def test_what_was_held_out_is_known_again_by_the_numbers_of_the_split(tmp_path: Path) -> None:
    _, train, held_out = compose(tmp_path, [list(range(40)), list(range(30, 60))], [3, 0.5], 0.2)
    parts = [Part(tmp_path / f"{index}.jsonl", 1.0) for index in (1, 0)]
    is_held_out = Composer(parts, seed=7).held_out(0.2)
    assert all(map(is_held_out, held_out))
    assert not any(map(is_held_out, train))
    other = Composer(parts, seed=8).held_out(0.2)
    assert not all(map(other, held_out))


def test_the_split_comes_before_the_weights(tmp_path: Path) -> None:
    counts, train, held_out = compose(tmp_path, [list(range(10)), list(range(10, 20))], [3, 0.5], 0.2)

    assert counts.validation == len(held_out) == len(set(held_out)) == 4
    kept = [{row(n) for n in numbers} - set(held_out) for numbers in (range(10), range(10, 20))]
    assert counts.training == (3 * len(kept[0]), round(len(kept[1]) * 0.5))
    assert collections.Counter(train[: counts.training[0]]) == collections.Counter(dict.fromkeys(kept[0], 3))
    assert set(train[counts.training[0] :]) <= kept[1]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    results = []
    for index, seed in enumerate((1, 1, 2)):
        directory = tmp_path / str(index)
        directory.mkdir()
        compose(directory, [list(range(50)), list(range(100, 130))], [0.5, 1.5], 0.2, seed)
        results.append([(directory / name).read_bytes() for name in (TRAIN, HELD_OUT)])

    assert results[0] == results[1]
    assert results[0] != results[2]


def test_what_is_held_out_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    held_out = []
    for index, numbers in enumerate((list(range(40)), list(reversed(range(40))))):
        directory = tmp_path / str(index)
        directory.mkdir()
        held_out.append(set(compose(directory, [numbers], [1], 0.25)[2]))

    assert held_out[0] == held_out[1]


def test_rows_keep_their_order_and_blank_lines_and_line_ends_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    path.write_bytes(row(1) + b"\r\n\n" + row(2) + b"\n   \n" + row(3))

    counts = Composer([Part(path, 1.0)], seed=0).compose(None, tmp_path / TRAIN, tmp_path / HELD_OUT)

    assert counts == RowCounts((3,), 0)
    assert (tmp_path / TRAIN).read_bytes() == b"".join(row(number) + b"\n" for number in (1, 2, 3))
    assert not (tmp_path / HELD_OUT).exists()


def test_a_dataset_of_equal_rows_gives_exactly_its_part(tmp_path: Path) -> None:
    counts, train, _ = compose(tmp_path, [[5] * 9, [1, 2]], [0.3, 1])

    assert counts.training == (3, 2)
    assert train == [row(5)] * 3 + [row(1), row(2)]


@pytest.mark.parametrize(
    ("datasets", "weights", "ratio", "word"),
    [
        ([[1], [2]], [0.1, 0.1], None, "leave no row"),
        ([[4, 4], [4]], [1, 1], 0.5, "all rows are equal"),
        ([[4]], [1], 0.5, "1 rows cannot be split"),
        ([[], []], [1, 1], None, "leave no row"),
    ],
)
def test_what_leaves_nothing_to_train_on_is_told(
    tmp_path: Path, datasets: list[list[int]], weights: list[float], ratio: float | None, word: str
) -> None:
    with pytest.raises(ServiceError, match=word) as caught:
        compose(tmp_path, datasets, weights, ratio)
    assert caught.value.reason == "DATASET_UNUSABLE"


def test_a_stopped_composition_leaves_no_finished_file(tmp_path: Path) -> None:
    (path,) = write(tmp_path, list(range(100)))
    asked = iter([False] * 150)

    with pytest.raises(Stopped):
        Composer([Part(path, 1.0)], seed=0, should_stop=lambda: next(asked, True)).compose(
            None, tmp_path / TRAIN, tmp_path / HELD_OUT
        )

    assert not (tmp_path / TRAIN).exists()


def test_memory_does_not_grow_with_the_data(tmp_path_factory: pytest.TempPathFactory) -> None:
    peaks = []
    for count in (2_000, 20_000):
        directory = tmp_path_factory.mktemp("m")
        (path,) = write(directory, list(range(count)))
        tracemalloc.start()
        Composer([Part(path, 0.5)], seed=0).compose(0.1, directory / TRAIN, directory / HELD_OUT)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < peaks[0] + 200_000


@pytest.mark.parametrize(("weight", "ratio"), [(1.0, 0.3), (2.5, None), (0.5, None), (1.5, 0.5)], ids=str)
def test_of_one_dataset_every_training_row_knows_its_number(tmp_path: Path, weight: float, ratio: float | None) -> None:
    numbers = [number % 13 for number in range(40)]
    _, train, _ = compose(tmp_path, [numbers], [weight], ratio)
    with row_numbers(tmp_path / TRAIN) as found:
        told = list(found)
    assert train == [row(numbers[number - 1]) for number in told]
    assert not list(tmp_path.glob(".*"))


def test_of_several_datasets_rows_count_from_1(tmp_path: Path) -> None:
    compose(tmp_path, [[1, 2], [3]], [1.0, 1.0])
    assert not numbers_beside(tmp_path / TRAIN).exists()
    with row_numbers(tmp_path / TRAIN) as found:
        assert [next(found), next(found)] == [1, 2]
