"""Micro-batches are put together as far as memory goes, and never change how many rows a step has."""

import pytest
from fast_models import adapted, network
from training_configs import numbers

from services.trainer.training.fast import FastDecoder, merged, merging

ROOM = merging.ACTIVATION_BYTES


def sizes(per_device, accumulation, most, processes=1):
    asked = numbers(
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        num_processes=processes,
        global_batch_size=per_device * accumulation * processes,
    )
    found = merged(asked, [1, 10, 4], ROOM // (10 * most))
    assert found.global_batch_size == asked.global_batch_size
    return found.per_device_train_batch_size, found.gradient_accumulation_steps


@pytest.mark.parametrize(
    ("asked", "most", "expected"),
    [
        ((8, 2), 100, (16, 1)),
        ((8, 2), 16, (16, 1)),
        ((8, 2), 15, (8, 2)),
        ((1, 12), 5, (4, 3)),
        ((4, 3), 11, (6, 2)),
        ((8, 1), 100, (8, 1)),
        ((8, 2), 3, (8, 2)),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_the_largest_divisor_that_has_room(asked, most, expected):
    assert sizes(*asked, most) == expected


def test_each_rank_keeps_its_share():
    assert sizes(2, 4, 100, processes=2) == (8, 1)


def test_dropout_of_adapters_is_kept_of_each_token_too():
    without, dropping = (adapted(network(), dropout=rate).get_base_model().get_decoder() for rate in (0.0, 0.1))
    shape = dropping.config
    read = 6 * shape.hidden_size + shape.intermediate_size
    assert FastDecoder(dropping).bytes_per_token - FastDecoder(without).bytes_per_token == 4 * shape.num_hidden_layers * read


def test_a_decoder_knows_what_it_keeps_of_a_token(model):
    decoder = model.get_decoder()
    shape = decoder.config
    widths = 2 * shape.hidden_size + 2 * shape.intermediate_size
    heads = (2 * shape.num_attention_heads + 2 * shape.num_key_value_heads) * decoder.layers[0].self_attn.head_dim
    learn = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in decoder.layers]
    # Those below the first that learns run one after the other, so one of them is in memory.
    kept = min(learn.count(True) + 1, len(learn))
    assert FastDecoder(decoder).bytes_per_token == 4 * kept * (widths + heads)
