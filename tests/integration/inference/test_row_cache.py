"""The cache of a batch against what each row alone would have kept."""

import pytest
import torch
from transformers import DynamicCache

from services.inference.row_cache import RowCache

pytestmark = pytest.mark.integration

LAYERS, HEADS, WIDTH = 2, 3, 4


def states(value: float, rows: int = 1, columns: int = 1) -> torch.Tensor:
    return torch.full((rows, HEADS, columns, WIDTH), float(value))


def prompt(value: float, length: int) -> DynamicCache:
    """A row whose keys are `value` and whose values are -`value`."""
    cache = DynamicCache()
    for layer in range(LAYERS):
        cache.update(states(value, 1, length), states(-value, 1, length), layer)
    return cache


def step(cache: RowCache, value: float) -> tuple[list[list[float]], list[list[float]], list[int]]:
    """Writes `value` to every row; the keys and values that each row may look at in the last layer, and its position."""
    layers, positions, mask = cache.next_column(slice(0, len(cache)))
    for layer in range(LAYERS):
        keys, values = layers.update(states(value, len(cache)), states(-value, len(cache)), layer)
    assert bool(torch.isfinite(keys).all() and torch.isfinite(values).all())
    seen = torch.ones(keys.shape[0], keys.shape[2]) if mask is None else mask
    looked_at = [[tensor[row, 0, seen[row].bool(), 0].tolist() for row in range(len(cache))] for tensor in (keys, values)]
    cache.advance()
    return looked_at[0], looked_at[1], positions[:, 0].tolist()


def test_every_row_looks_at_its_own_tokens_and_no_others() -> None:
    cache = RowCache()
    for value, length in ((1, 3), (2, 1), (3, 5)):
        cache.join(prompt(value, length))
    keys, values, positions = step(cache, 9)
    assert keys == [[1] * 3 + [9], [2, 9], [3] * 5 + [9]]
    assert values == [[-key for key in row] for row in keys]
    assert positions == [3, 1, 5]


def test_rows_that_are_as_long_as_each_other_need_no_mask() -> None:
    cache = RowCache()
    for value in (1, 2):
        cache.join(prompt(value, 4))
    assert cache.next_column(slice(0, 2))[2] is None


def test_the_last_row_takes_the_place_of_one_that_leaves() -> None:
    cache = RowCache()
    for value, length in ((1, 6), (2, 1), (3, 2)):
        cache.join(prompt(value, length))
    cache.leave(0)
    assert step(cache, 9)[0] == [[3, 3, 9], [2, 9]]
    cache.leave(1)
    cache.join(prompt(4, 7))
    assert step(cache, 8)[0] == [[3, 3, 9, 8], [4] * 7 + [8]]


def test_an_empty_cache_begins_anew() -> None:
    cache = RowCache()
    cache.join(prompt(1, 50))
    cache.leave(0)
    assert len(cache) == 0
    cache.join(prompt(2, 2))
    assert step(cache, 9) == ([[2, 2, 9]], [[-2, -2, -9]], [2])


def test_a_step_that_is_repeated_counts_once() -> None:
    cache = RowCache()
    for value in (1, 2):
        cache.join(prompt(value, 2))
    layers, _, _ = cache.next_column(slice(1, 2))
    for layer in range(LAYERS):
        layers.update(states(7), states(7), layer)
    assert step(cache, 9)[0] == [[1, 1, 9], [2, 2, 9]]


def test_it_outgrows_its_buffers_in_both_directions() -> None:
    cache = RowCache()
    cache.join(prompt(1, 2))
    written = [1.0, 1.0]
    for number in range(200):
        if number in (20, 90):
            cache.join(prompt(5, 150 + number))
        written.append(float(number))
        keys, _, _ = step(cache, float(number))
        assert keys[0] == written
    assert [len(row) for row in keys] == [202, 150 + 20 + 180, 150 + 90 + 110]


def test_what_a_broken_row_left_behind_is_not_read_along() -> None:
    cache = RowCache()
    for value, length in ((1, 40), (float("nan"), 40)):
        cache.join(prompt(value, length))
    cache.leave(1)
    cache.join(prompt(2, 3))
    assert step(cache, 9)[0][1] == [2, 2, 2, 9]
