"""The lean forward pass writes and judges what transformers and peft do, for all rows of a batch."""

import copy
from pathlib import Path

import pytest
import torch
from engine_rows import alone, first_written, together
from lean_engines import BASE, LONG, asked, drawn, lean, stock, write_adapter

from services.inference.engine import GenerationRequest

# Nats; sums are rounded otherwise.
BOUND = 5e-5
ADAPTERS = {
    "lora": {},
    "some-modules": {"target_modules": ["q_proj", "v_proj", "up_proj"], "r": 2},
    "rslora": {"use_rslora": True, "r": 3},
    "dora": {"use_dora": True},
    "own-bias": {"lora_bias": True, "target_modules": ["k_proj", "down_proj"]},
    "head": {"target_modules": ["lm_head", "o_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "gate_proj"]},
}


def with_adapters(engine: object, model: object, directory: Path) -> list[str]:
    """All kinds of adapters, written once and loaded into the engine; their names."""
    for seed, (kind, config) in enumerate(ADAPTERS.items(), 1):
        if not (directory / kind).exists():
            write_adapter(model, directory / kind, seed=seed, **config)
        engine.load_adapter(BASE, f"artifacts/{kind}", directory / kind)
    return [f"artifacts/{kind}" for kind in ADAPTERS]


def mixed(names: list[str]) -> list[GenerationRequest]:
    lengths = (3, 70, 1, 41, 7, 60, 2, 79, 5)
    adapters = [None, *names, None]
    return [asked(LONG[shift : shift + n], 10, adapters[shift]) for shift, n in enumerate(lengths)]


@pytest.mark.parametrize("model", ["llama-tied-wide-heads", "qwen2", "qwen2-float16"], indirect=True)
def test_rows_of_the_base_and_of_adapters_of_every_kind_are_written_and_judged_as_by_peft(model: object, tmp_path: Path) -> None:
    ours, theirs = lean(model), stock(model)
    names = with_adapters(ours, model, tmp_path)
    with_adapters(theirs, model, tmp_path)
    requests = mixed(names)
    expected = [alone(theirs, request) for request in requests]
    assert together(ours, requests, stagger=2) == expected
    assert len({tuple(answer) for answer in expected}) == len(expected)
    for name in names:
        request = asked(LONG[:50], 1, name, logprobs=0, judged_from=1)
        found, known = ([each.logprob for each in first_written(engine, request).prompt] for engine in (ours, theirs))
        assert found == pytest.approx(known, abs=BOUND)


def test_every_token_is_as_probable_as_in_one_forward_pass_of_transformers(model: object) -> None:
    written = first_written(lean(model), asked(LONG, 1, logprobs=2, judged_from=1))
    with torch.inference_mode():
        reference = torch.log_softmax(copy.deepcopy(model).eval()(input_ids=torch.tensor([LONG])).logits[0], dim=-1)
    assert [token.id for token in written.prompt] == list(LONG[1:])
    for place, token in enumerate(written.prompt):
        assert token.logprob == pytest.approx(float(reference[place, token.id]), abs=BOUND)
        assert token.top[0][1] == pytest.approx(float(reference[place].max()), abs=BOUND)
    assert written.logprob == pytest.approx(float(reference[-1].max()), abs=BOUND)


@pytest.mark.parametrize("model", ["llama", "qwen2", "qwen2-float16"], indirect=True)
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bfloat16"])
def test_a_seed_writes_the_same_whoever_is_beside_it_and_whenever_they_come_and_go(
    model: object, tmp_path: Path, half: bool
) -> None:
    engine = lean(model, half=half)
    engine.load_adapter(BASE, "artifacts/lora", write_adapter(model, tmp_path / "lora"))
    adapters = (None, "artifacts/lora", None, "artifacts/lora", None)
    requests = [
        asked(LONG[seed : seed + length], count, adapters[seed], sampling=drawn(seed))
        for seed, (length, count) in enumerate(((4, 60), (90, 5), (1, 30), (33, 12), (64, 80)))
    ]
    expected = [alone(engine, request) for request in requests]
    for stagger in (0, 3):
        assert together(engine, requests, stagger=stagger) == expected
    assert together(engine, requests[::-1], stagger=1) == expected[::-1]


@pytest.mark.parametrize("model", ["llama-biases", "qwen2"], indirect=True)
def test_half_the_precision_is_close_and_not_the_same(model: object) -> None:
    request = asked(LONG[:60], 1, logprobs=0, judged_from=1)
    found, expected = (
        torch.tensor([each.logprob for each in first_written(engine, request).prompt])
        for engine in (lean(model, half=True), lean(model))
    )
    difference = (found - expected).abs()
    assert 0 < difference.mean() < 0.05
