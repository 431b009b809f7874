"""The parts of a lean layer, each against the part of transformers or the plain formula that it stands for."""

import functools
import math

import pytest
import torch
from lean_engines import MODELS
from torch.nn import functional
from transformers import Cache, DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from services.inference.lean.attention import Reading, Writing
from services.inference.lean.layer import Norm, Rotation, projections
from services.inference.lean.projection import Projection
from services.inference.network import Piece
from services.inference.row_cache import RowCache
from services.inference.row_lora import RowLora

HEADS, KEY_HEADS, WIDTH = 6, 2, 8


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


def heads(tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values, [tokens, heads, D] each, as they lie in the results of products: not one behind the other."""
    queries, keys = torch.randn(tokens, HEADS + KEY_HEADS, WIDTH).split([HEADS, KEY_HEADS], dim=1)
    return queries, keys, torch.randn(tokens, KEY_HEADS, WIDTH)


def attended(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What the last queries of one sequence see of it, by the formula, [queries, heads · D]."""
    repeated = [states.repeat_interleave(HEADS // KEY_HEADS, dim=1) for states in (keys, values)]
    scores = torch.einsum("qhd,khd->hqk", queries, repeated[0]) / math.sqrt(WIDTH)
    later = torch.ones(scores.shape[1:]).triu_(1 + scores.shape[2] - scores.shape[1]).bool()
    weights = scores.masked_fill(later, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, repeated[1]).flatten(1)


@pytest.mark.parametrize("name", ["llama", "llama3-positions", "llama-tied-wide-heads"])
def test_heads_are_turned_as_by_transformers(name: str) -> None:
    model = MODELS[name]()
    positions = torch.tensor([[0, 1, 7, 100, 3]])
    turning = torch.randn(5, 4, model.model.layers[0].self_attn.head_dim)
    cosine, sine = model.model.rotary_emb(turning, positions)
    expected, _ = apply_rotary_pos_emb(turning.transpose(0, 1)[None], turning.transpose(0, 1)[None], cosine, sine)
    torch.testing.assert_close(Rotation.of(cosine, sine).turned(turning), expected[0].transpose(0, 1))


def test_states_are_normalised_as_by_transformers() -> None:
    norm = MODELS["llama"]().model.norm
    states = torch.randn(5, 48) * 10
    torch.testing.assert_close(Norm(norm)(states), norm(states))


@pytest.mark.parametrize("rows", [1, 2, 8, 33, 200])
@pytest.mark.parametrize("name", ["llama", "llama-biases", "qwen2"])
def test_layers_side_by_side_give_what_they_give_alone(name: str, rows: int) -> None:
    attention = MODELS[name]().model.layers[0].self_attn
    names = ("q_proj", "k_proj", "v_proj")
    x = torch.randn(rows, 48)
    with torch.inference_mode():
        expected = torch.cat([getattr(attention, each)(x) for each in names], dim=1)
        torch.testing.assert_close(Projection(attention, names, RowLora(), half=False)(x), expected)
        rounded = Projection(attention, names, RowLora(), half=True)(x)
    assert rounded.dtype is torch.float32
    torch.testing.assert_close(rounded, expected, rtol=0.02, atol=0.05)
    assert not torch.equal(rounded, expected)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bfloat16"])
@pytest.mark.parametrize("beside", [2, 8, 128, 256])
def test_a_row_gets_the_same_digits_whatever_is_beside_it(beside: int, half: bool) -> None:
    mlp = MODELS["llama"]().model.layers[0].mlp
    side_by_side = Projection(mlp, ("gate_proj", "up_proj"), RowLora(), half=half)
    x = torch.randn(beside, 48)
    with torch.inference_mode():
        assert torch.equal(side_by_side(x)[:1], side_by_side(x[:1]))


def test_every_linear_layer_is_known() -> None:
    layer = MODELS["qwen2"]().model.layers[0]
    known = {getattr(parent, name) for parent, name in projections(layer)}
    assert known == {module for module in layer.modules() if type(module) is torch.nn.Linear}


def test_pieces_beside_each_other_look_at_themselves_and_what_stands_before_them() -> None:
    lengths, befores = (5, 1, 9), (0, 7, 3)
    queries, keys, values = heads(sum(lengths))
    caches, expected = [], []
    for part, before in enumerate(befores):
        here = slice(sum(lengths[:part]), sum(lengths[: part + 1]))
        _, old_keys, old_values = heads(before)
        caches.append(DynamicCache())
        if before:
            caches[-1].update(old_keys.transpose(0, 1)[None], old_values.transpose(0, 1)[None], 0)
        everything = torch.cat((old_keys, keys[here])), torch.cat((old_values, values[here]))
        expected.append(attended(queries[here], *everything))
    pieces = [Piece(None, (1,) * length, cache, 1) for length, cache in zip(lengths, caches, strict=True)]
    reading = Reading(pieces)
    torch.testing.assert_close(reading(0, queries, keys, values), torch.cat(expected))
    assert [cache.get_seq_length() for cache in caches] == list(befores)
    reading.keep()
    assert [cache.get_seq_length() for cache in caches] == [5, 8, 12]
    torch.testing.assert_close(caches[1].layers[0].keys[0, :, -1], keys[5])


@pytest.mark.parametrize("lengths", [(4, 9, 1), (700, 3, 8, 600, 600), (5, 5, 900)])
def test_rows_that_write_look_at_all_that_was_written_in_their_row(lengths: tuple[int, ...]) -> None:
    cache, states = RowCache(), [heads(length) for length in lengths]
    for _, keys, values in states:
        prompt = DynamicCache()
        prompt.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None], 0)
        cache.join(prompt)
    queries, keys, values = heads(len(lengths))
    columns, positions, _ = cache.next_column(slice(0, len(lengths)))
    seen = Writing(columns, positions[:, 0])(0, queries, keys, values)
    for row, (_, old_keys, old_values) in enumerate(states):
        here = slice(row, row + 1)
        everything = torch.cat((old_keys, keys[here])), torch.cat((old_values, values[here]))
        torch.testing.assert_close(seen[here], attended(queries[here], *everything))


def test_nothing_is_masked_where_all_rows_are_equally_long(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    kernel = functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional,
        "scaled_dot_product_attention",
        lambda *args, attn_mask=None, **rest: masks.append(attn_mask) or kernel(*args, attn_mask=attn_mask, **rest),
    )
    cache = RowCache()
    for _ in range(2):
        prompt = DynamicCache()
        prompt.update(*torch.randn(2, 1, KEY_HEADS, 4, WIDTH), 0)
        cache.join(prompt)
    columns, positions, _ = cache.next_column(slice(0, 2))
    assert isinstance(columns, Cache)
    Writing(columns, positions[:, 0])(0, *heads(2))
    assert masks == [None]


def test_memory_that_was_used_before_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", functools.wraps(plain)(lambda self, *a: plain(self, *a).fill_(torch.nan)))
    cache = RowCache()
    for length in (4, 90, 1, 200):
        prompt = DynamicCache()
        prompt.update(*torch.randn(2, 1, KEY_HEADS, length, WIDTH), 0)
        cache.join(prompt)
        for _ in range(70):
            columns, positions, _ = cache.next_column(slice(0, len(cache)))
            assert bool(Writing(columns, positions[:, 0])(0, *heads(len(cache))).isfinite().all())
            cache.advance()
    cache.leave(3)
    cache.leave(0)
    columns, positions, _ = cache.next_column(slice(0, 2))
    assert bool(Writing(columns, positions[:, 0])(0, *heads(2)).isfinite().all())
