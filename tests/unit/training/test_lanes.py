"""Rows divided among threads: the same sums and gradients as all rows on all threads, and the same bits every time."""

import threading

import pytest
import torch
from fast_models import adapted, assert_equal, double, frozen_in_bf16, gradients, network, threads
from training_configs import config as configured
from training_examples import example, pair

from services.trainer.training import lanes
from services.trainer.training.data import Dataset
from services.trainer.training.fast import FastDecoder
from services.trainer.training.lanes import Lanes, divided, most_lanes, summed
from services.trainer.training.model import ObjectiveModule
from services.trainer.training.objectives.registry import OBJECTIVES

CPU = torch.device("cpu")
PREFIX = tuple(range(60, 72))
LENGTHS = [(5, 2), (17, 1), (9, 8), (43, 3), (6, 5), (30, 4)]
CHATS = [
    example([*PREFIX, *range(seed, seed + length)], range(12 + length - answer, 12 + length))
    for seed, (length, answer) in enumerate(LENGTHS)
]
PAIRS = [pair([*PREFIX, seed], range(20, 20 + 9 * seed), [seed, 3]) for seed in range(1, 5)]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def two_threads():
    with threads(2):
        yield


@pytest.fixture
def small(monkeypatch):
    """Any two rows are worth two lanes."""
    monkeypatch.setattr(lanes, "_WORTH_A_LANE", 1)


def tokens(part):
    return sum(len(text.ids) for each in part for text in each.texts)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 6])
def test_every_row_is_in_one_part_and_parts_are_about_equally_long(small, most):
    parts = divided(CHATS, most)
    assert len(parts) == most
    assert sorted(map(id, (each for part in parts for each in part))) == sorted(map(id, CHATS))
    longest = max(tokens([each]) for each in CHATS)
    assert max(map(tokens, parts)) - min(map(tokens, parts)) <= longest


def test_pairs_count_with_both_their_texts(small):
    parts = divided(PAIRS, 2)
    assert abs(tokens(parts[0]) - tokens(parts[1])) <= max(tokens([each]) for each in PAIRS)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (1, 2, 1),
        (3, 2, 1),
        (4, 2, 2),
        (4, 4, 2),
        (8, 4, 4),
        (100, 1, 1),
        (100, 2, 2),
        (6, 8, 2),
        (12, 6, 6),
        (10, 6, 3),
        (0, 2, 1),
    ],
)
def test_parts_that_would_be_small_are_not_made_and_their_number_divides_that_of_the_threads(count, most, expected):
    rows = [example(range(lanes._WORTH_A_LANE // 2)) for _ in range(count)]
    assert len(divided(rows, most)) == expected


def test_what_is_not_divided_keeps_its_order():
    assert divided(CHATS, 2) == [CHATS]
    assert divided([], 2) == [[]]


def objective_of(method, config=None):
    rows = Dataset(tuple(PAIRS if method in {"dpo", "kto", "orpo"} else CHATS))
    return OBJECTIVES[method](rows, (config or configured(paths={"method": method})).hyperparameters)


@pytest.mark.parametrize(
    ("method", "changes", "expected"),
    [
        ("sft", {}, 2),
        ("cpt", {}, 2),
        ("orpo", {}, 2),
        ("dpo", {}, 2),
        ("kto", {}, 2),
        ("sft", {"lora": {"dropout": 0.1}}, 1),
        ("sft", {"num_processes": 2, "global_batch_size": 16}, 1),
        ("sft", {"paths": {"tuning": "full"}}, 1),
    ],
    ids=["sft", "cpt", "orpo", "dpo", "kto", "dropout", "two ranks", "all weights"],
)
def test_only_what_does_not_disturb_itself_is_divided(method, changes, expected):
    config = configured(**changes | {"paths": {"method": method} | changes.get("paths", {})})
    assert most_lanes(config, objective_of(method, config), is_fast=True) == expected
    assert most_lanes(config, objective_of(method, config), is_fast=False) == 1


def test_rows_whose_reference_is_stored_stay_in_their_order():
    objective = objective_of("dpo")
    objective.reference_is_stored = True
    assert most_lanes(configured(paths={"method": "dpo"}), objective, is_fast=True) == 1


def module_of(method, model):
    return ObjectiveModule(model, objective_of(method), None, FastDecoder(model.get_base_model().get_decoder()))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", ["sft", "cpt", "orpo", "dpo", "kto"])
def test_sums_and_gradients_are_those_of_all_rows_together(small, method, count):
    model = double(adapted(network()))
    module, objective = module_of(method, model), objective_of(method)
    rows = objective.arrange(Dataset(tuple(CHATS if method in {"sft", "cpt"} else PAIRS))).examples
    together = objective.collate(rows, CPU)
    divided_batch = Lanes(tuple(objective.collate(part, CPU) for part in divided(rows, count)))
    baseline = None
    if objective.has_baseline:
        with torch.no_grad():
            baseline = module(together, ask="baseline")
            torch.testing.assert_close(module(divided_batch, ask="baseline"), baseline)
    whole, parts = module(together, baseline), module(divided_batch, baseline)
    torch.testing.assert_close(parts, whole)
    assert_equal(gradients(model, parts[0]), gradients(model, whole[0]))


def test_the_same_rows_give_the_same_bits_every_time(small):
    model = adapted(network())
    module, objective = module_of("sft", model), objective_of("sft")
    batch = Lanes(tuple(objective.collate(part, CPU) for part in divided(CHATS, 2)))
    results = [gradients(model, module(batch)[0]) for _ in range(5)]
    for loss, found in results[1:]:
        assert loss == results[0][0]
        assert all(torch.equal(found[name], value) for name, value in results[0][1].items())


def test_products_of_bf16_give_the_same_bits_every_time_and_nearly_those_of_all_rows_together(small):
    model = frozen_in_bf16(adapted(network()))
    module, objective = module_of("sft", model), objective_of("sft")
    batch = Lanes(tuple(objective.collate(part, CPU) for part in divided(CHATS, 2)))
    first, *others = (gradients(model, module(batch)[0]) for _ in range(4))
    for loss, found in others:
        assert loss == first[0]
        assert all(torch.equal(found[name], value) for name, value in first[1].items())
    together = gradients(model, module(objective.collate(CHATS, CPU))[0])
    assert_equal(first, together, rtol=0.05, atol=0.05)
    assert first[0].item() == pytest.approx(together[0].item(), rel=1e-3)


def test_without_gradients_only_sums_are_computed(small):
    model = adapted(network())
    module, objective = module_of("sft", model), objective_of("sft")
    batch = Lanes(tuple(objective.collate(part, CPU) for part in divided(CHATS, 2)))
    with torch.no_grad():
        sums = module(batch)
    assert not sums.requires_grad
    torch.testing.assert_close(sums, module(batch).detach())


def test_each_part_has_a_thread_of_its_own_with_its_share_of_the_cores():
    meeting, found = threading.Barrier(2, timeout=60), []

    def compute(part):
        meeting.wait()
        found.append((threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()))
        return part

    with torch.no_grad():
        assert summed(compute, Lanes((torch.ones(1), torch.ones(1))), ()) == 2
    assert {each[1:] for each in found} == {(1, False)}
    assert len({*(each[0] for each in found), threading.get_ident()}) == 3
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("learns", [True, False])
def test_a_failure_on_a_thread_is_that_of_the_step_and_comes_when_all_have_ended(learns):
    weight, ended = torch.ones(1, requires_grad=True), []

    def compute(part):
        if part:
            raise RuntimeError("out of memory")
        ended.append(1)
        return weight * 2

    with torch.set_grad_enabled(learns), pytest.raises(RuntimeError, match="out of memory"):
        summed(compute, Lanes((1, 0)), (weight,))
    assert ended
    assert torch.get_num_threads() == 2


def test_a_failure_on_the_way_back_is_told():
    weight = torch.ones(1, requires_grad=True)

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("no way back")

    with pytest.raises(RuntimeError, match="no way back"):
        summed(Fails.apply, Lanes((weight, weight)), (weight,)).sum().backward()
    assert torch.get_num_threads() == 2


def test_a_weight_that_a_part_did_not_use_gets_the_gradient_of_the_others():
    first, second = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    summed(lambda part: part * 3, Lanes((first, second)), (first, second)).sum().backward()
    assert (first.grad, second.grad) == (torch.tensor([3.0]), torch.tensor([3.0]))
