"""Rows of a real model in one batch: each gets what it gets alone, whoever is beside it and whatever happens to them."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from engine_rows import alone, together
from inference_fakes import ARTIFACT, OTHER_ARTIFACT
from peft_reference import greedy, write_adapter
from safetensors.torch import load_file, save_file

from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest, Sampling
from services.inference.transformers_engine import TransformersEngine

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")]

BASE = "baseModels/tiny"


@pytest.fixture(params=[0, 2**30], ids=["transformers", "lean"])
def engine(base_directory: Path, request: pytest.FixtureRequest) -> TransformersEngine:
    engine = TransformersEngine(threads=1, pack_up_to=request.param)
    engine.load_base(BASE, base_directory)
    return engine


def request_for(adapter: str | None = None, *, first: int = 10, length: int = 4, count: int = 12) -> GenerationRequest:
    return GenerationRequest(BASE, adapter, tuple(range(first, first + length)), count)


def test_many_rows_of_all_lengths_get_what_a_forward_pass_without_cache_gives(
    engine: TransformersEngine, base_directory: Path
) -> None:
    requests = [request_for(first=5 + index, length=length) for index, length in enumerate((3, 80, 1, 41, 7, 60, 2, 79, 5))]
    expected = [greedy(base_directory, None, request.prompt, 12) for request in requests]
    for stagger in (0, 2):
        assert together(engine, requests, stagger=stagger) == expected


def test_a_batch_that_outlives_its_buffers_goes_on(engine: TransformersEngine) -> None:
    requests = [request_for(length=3, count=150), request_for(length=90, count=10), request_for(length=4, count=200)]
    assert together(engine, requests, stagger=40) == [alone(engine, request) for request in requests]


@pytest.mark.parametrize(
    "config",
    [{"use_dora": True}, {"use_rslora": True}, {"target_modules": ["embed_tokens", "q_proj"]}, {"target_modules": ["lm_head"]}],
    ids=["dora", "rslora", "embedding", "head"],
)
# peft says much about embeddings that share their weights with the head.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters_of_every_kind_are_mixed_as_peft_computes_them(
    engine: TransformersEngine, base_directory: Path, adapter_directory: Path, tmp_path: Path, config: dict[str, object]
) -> None:
    special = write_adapter(base_directory, tmp_path / "special", seed=4, **{"target_modules": "all-linear", **config})
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, special)
    requests = [request_for(name, length=length) for name, length in ((OTHER_ARTIFACT, 4), (None, 9), (ARTIFACT, 2))]
    requests.append(request_for(OTHER_ARTIFACT, first=30, length=20))
    directories = {ARTIFACT: adapter_directory, OTHER_ARTIFACT: special, None: None}
    expected = [greedy(base_directory, directories[request.adapter], request.prompt, 12) for request in requests]
    assert together(engine, requests, stagger=1) == expected


def test_the_same_seed_writes_the_same_whatever_else_is_in_the_batch(engine: TransformersEngine, adapter_directory: Path) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    requests = [
        dataclasses.replace(request_for(adapter, length=length, count=30), sampling=Sampling(1.0, top_p, seed))
        for adapter, length, top_p, seed in ((None, 4, 1.0, 1), (ARTIFACT, 9, 0.9, 1), (None, 4, 1.0, 2), (ARTIFACT, 9, 0.9, 1))
    ]
    answers = together(engine, requests, stagger=1)
    assert answers == [alone(engine, request) for request in requests]
    assert answers[1] == answers[3]
    assert answers[0] != answers[2]


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_an_adapter_that_comes_back_with_other_weights_answers_with_them(
    engine: TransformersEngine, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path, beside: bool
) -> None:
    if beside:
        engine.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    for directory in (adapter_directory, other_adapter_directory):
        engine.load_adapter(BASE, ARTIFACT, directory)
        requests = [request_for(ARTIFACT), request_for()]
        assert together(engine, requests)[0] == greedy(base_directory, directory, requests[0].prompt, 12)
        engine.unload(ARTIFACT)


def test_more_adapters_than_are_kept_stacked_take_turns(engine: TransformersEngine, base_directory: Path, tmp_path: Path) -> None:
    names = [f"artifacts/{number}" for number in range(10)]
    for seed, name in enumerate(names):
        engine.load_adapter(BASE, name, write_adapter(base_directory, tmp_path / str(seed), seed=seed, target_modules=["q_proj"]))
    requests = [request_for(name, count=6) for name in names]
    assert together(engine, requests, stagger=1) == [alone(engine, request) for request in requests]


def test_a_prompt_that_fails_fails_alone(engine: TransformersEngine) -> None:
    engine.admit(1, request_for())
    engine.admit(2, dataclasses.replace(request_for(), prompt=(10**6,)))
    engine.admit(3, request_for())
    outcomes = engine.step(BASE)
    assert isinstance(outcomes[2], ServiceError)
    assert outcomes[2].reason == "GENERATION_FAILED"
    assert outcomes[1] == outcomes[3]
    assert set(engine.step(BASE)) == {1, 3}


def test_a_row_that_breaks_a_running_batch_fails_alone(
    engine: TransformersEngine, adapter_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    requests = [request_for(length=5), request_for(ARTIFACT), request_for(length=2)]
    expected = [alone(engine, requests[0]), alone(engine, requests[2])]
    for ticket, request in enumerate(requests):
        engine.admit(ticket, request)
    written = [engine.step(BASE), engine.step(BASE)]
    batch = engine._batches[BASE]
    forward = type(batch)._forward

    def broken(self: object, rows: slice) -> torch.Tensor:
        if any(row.request.adapter for row in batch._rows[rows]):
            raise RuntimeError("a kernel failed")
        return forward(batch, rows)

    monkeypatch.setattr(type(batch), "_forward", broken)
    written += [engine.step(BASE) for _ in range(10)]
    assert isinstance(written[2][1], ServiceError)
    assert "a kernel failed" in written[2][1].message
    assert [1 in step for step in written] == [True] * 3 + [False] * 9
    assert [[step[ticket].id for step in written] for ticket in (0, 2)] == expected


def test_numbers_that_are_not_finite_are_a_failure_and_do_not_spread(
    base_directory: Path, tmp_path: Path, adapter_directory: Path
) -> None:
    engine = TransformersEngine(threads=1)
    engine.load_base(BASE, base_directory)
    huge = shutil.copytree(adapter_directory, tmp_path / "huge")
    weights = load_file(huge / "adapter_model.safetensors")
    save_file({name: value * 1e25 for name, value in weights.items()}, huge / "adapter_model.safetensors")
    engine.load_adapter(BASE, ARTIFACT, huge)
    expected = alone(engine, request_for())
    engine.admit(1, request_for(ARTIFACT))
    outcome = engine.step(BASE)[1]
    assert isinstance(outcome, ServiceError)
    assert "not finite" in outcome.message
    assert alone(engine, request_for()) == expected


def test_an_adapter_whose_weights_are_not_finite_is_refused(
    engine: TransformersEngine, tmp_path: Path, adapter_directory: Path
) -> None:
    broken = shutil.copytree(adapter_directory, tmp_path / "broken")
    weights = load_file(broken / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(ServiceError, match="not finite") as refused:
        engine.load_adapter(BASE, ARTIFACT, broken)
    assert refused.value.reason == "ARTIFACT_UNUSABLE"


@pytest.mark.parametrize("field", [{"bias": "all"}, {"modules_to_save": ["lm_head"]}], ids=["bias", "modules_to_save"])
def test_an_adapter_that_changes_more_than_its_own_rows_is_refused(
    engine: TransformersEngine, tmp_path: Path, adapter_directory: Path, field: dict[str, object]
) -> None:
    changing = shutil.copytree(adapter_directory, tmp_path / "changing")
    config = json.loads((changing / "adapter_config.json").read_text())
    (changing / "adapter_config.json").write_text(json.dumps(config | field))
    with pytest.raises(ServiceError, match="more than its LoRA weights"):
        engine.load_adapter(BASE, ARTIFACT, changing)
