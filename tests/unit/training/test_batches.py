"""Data order, shares of ranks, partial batches: pure functions of (seed, epoch, ranks)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_configs import numbers

from services.trainer.training.batches import epoch_order, evaluation_share, share, windows


def lengths_of(count, seed=0):
    source = random.Random(seed)
    return [source.randint(5, 200) for _ in range(count)]


def test_an_epoch_is_a_permutation():
    assert sorted(epoch_order(100, 42, 0)) == list(range(100))


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    assert epoch_order(50, 42, 1) == epoch_order(50, 42, 1)
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in (1, 11, 42) for epoch in (0, 1, 2, 12)}
    assert len(orders) == 12


def test_order_is_the_same_on_every_machine_and_in_every_version():
    assert epoch_order(8, 42, 0) == [1, 2, 5, 7, 6, 0, 3, 4]


def test_every_epoch_shows_every_example_once():
    seen = [window.examples for window in windows(lengths_of(21), numbers(num_train_epochs=2.0))]
    assert [len(examples) for examples in seen] == [8, 8, 5, 8, 8, 5]
    assert sorted(index for examples in seen[:3] for index in examples) == list(range(21))
    assert sorted(index for examples in seen[3:] for index in examples) == list(range(21))


def test_steps_count_from_one_and_epoch_says_how_much_is_done():
    made = list(windows(lengths_of(16), numbers(max_steps=3)))
    assert [(window.step, window.epoch) for window in made] == [(1, 0.5), (2, 1.0), (3, 1.5)]


LAYOUTS = [(8, 1, 1), (4, 2, 1), (1, 8, 1), (4, 1, 2), (2, 2, 2), (1, 2, 4)]


def layout(per_device, accumulation, processes):
    return numbers(
        per_device_train_batch_size=per_device, gradient_accumulation_steps=accumulation, num_processes=processes, max_steps=7
    )


@pytest.mark.parametrize("shape", LAYOUTS)
def test_the_examples_of_a_step_do_not_depend_on_how_they_are_cut(shape):
    lengths = lengths_of(27)
    expected = [sorted(window.examples) for window in windows(lengths, layout(8, 1, 1))]
    assert [sorted(window.examples) for window in windows(lengths, layout(*shape))] == expected


@given(st.integers(1, 8), st.sampled_from(LAYOUTS), st.integers(0, 100))
def test_a_share_keeps_every_rank_in_step_and_within_its_capacity(count, shape, seed):
    lengths, chosen = lengths_of(count, seed), layout(*shape)
    shares = share(range(count), lengths, chosen)
    assert len(shares) == chosen.num_processes
    assert all(len(rank) == chosen.gradient_accumulation_steps for rank in shares)
    assert all(len(piece) <= chosen.per_device_train_batch_size for rank in shares for piece in rank)
    assert sorted(index for rank in shares for piece in rank for index in piece) == list(range(count))


def test_a_partial_batch_is_dealt_evenly():
    shares = share(range(5), [10] * 5, layout(4, 1, 2))
    assert sorted(len(rank[0]) for rank in shares) == [2, 3]


def test_a_rank_without_examples_gets_empty_micro_batches():
    assert sorted(share([3], lengths_of(4), layout(2, 2, 2))) == [((), ()), ((3,), ())]


def test_neighbours_in_length_share_a_micro_batch_and_a_round():
    lengths = [10, 80, 11, 81, 12, 82, 13, 83]
    first, second = share(range(8), lengths, layout(2, 2, 2))
    assert first == ((0, 2), (1, 3))
    assert second == ((4, 6), (5, 7))


def test_evaluation_sees_every_example_once_over_all_ranks():
    shares = evaluation_share(lengths_of(19), layout(4, 1, 2))
    assert sorted(index for rank in shares for piece in rank for index in piece) == list(range(19))
    assert all(len(piece) <= 4 for rank in shares for piece in rank)


def test_evaluation_of_fewer_examples_than_ranks_keeps_the_others_in_step():
    assert evaluation_share([5], layout(1, 2, 4)) == (((0,),), ((),), ((),), ((),))
